"""Reads the plans and notes that stand beside checkpoints."""

from __future__ import annotations

from graphslim.errors import GraphslimError
from graphslim.plans import Plan


def read_plan(path: str) -> Plan:
    """Reads a plan's file.

    Raises:
        GraphslimError: it cannot be read, or is no plan.
    """
    return Plan.from_json(read_text(path), path)


def read_text(path: str) -> str:
    """Reads a text file.

    Raises:
        GraphslimError: it cannot be read, or is none.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise GraphslimError(f"cannot be read: {error.strerror}", path) from None
    except UnicodeDecodeError:
        raise GraphslimError("not a text file", path) from None

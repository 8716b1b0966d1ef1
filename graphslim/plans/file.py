"""Plans, and notes beside them, as files."""

from __future__ import annotations

from graphslim.errors import GraphslimError
from graphslim.plans.plan import Plan


def read_plan(path: str) -> Plan:
    """Reads a plan file.

    Raises:
        GraphslimError: it cannot be read or is no plan.
    """
    return Plan.from_json(read_text(path, "give a plan that graphslim wrote"), path)


def read_text(path: str, hint: str = "") -> str:
    """Reads a text file; `hint` says what to do about one that is none.

    Raises:
        GraphslimError: it cannot be read, or is no text.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise GraphslimError(f"cannot be read: {error.strerror}", path, hint) from None
    except UnicodeDecodeError:
        raise GraphslimError("not a text file", path, hint) from None

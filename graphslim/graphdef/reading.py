"""Reads a model's file whole."""

from __future__ import annotations

from graphslim.errors import LoadError


def read_bytes(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        LoadError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise LoadError("no such file", path, "check the path") from None
    except OSError as error:
        raise LoadError(
            f"cannot be read: {error.strerror}", path, "check its permissions"
        ) from None

"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import Any, Iterator

from graphslim import parts
from graphslim.errors import EmitError


@contextlib.contextmanager
def replacing(target: str) -> Iterator[Any]:
    """A binary file beside `target` that takes its place when, and only if, all was written.

    A link is followed, and what a file was allowed to whom stays so. A kill leaves the unfinished
    file behind; the next that writes into the folder removes it, see `graphslim.parts`.

    Raises:
        EmitError: the target cannot be written.
    """
    check_target(target)
    path, part = os.path.realpath(target), None
    parts.clear(os.path.dirname(path))
    try:
        descriptor, part = tempfile.mkstemp(parts.SUFFIX, parts.prefix(), os.path.dirname(path))
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        old = os.path.exists(path)
        os.chmod(part, stat.S_IMODE(os.stat(path).st_mode) if old else 0o666 & ~parts.umask())
        os.replace(part, path)
    except OSError as error:
        raise EmitError(
            f"cannot be written: {error.strerror or error}",
            target,
            "check the folder's permissions and space",
        ) from None
    finally:
        if part is not None and os.path.exists(part):
            os.unlink(part)


def check_target(target: str) -> None:
    """Refuses a path that no file can be written to.

    Raises:
        EmitError: so.
    """
    if not target:
        raise EmitError("an empty file name", "output", "give a path to write to")
    if os.path.isdir(target) or not os.path.basename(target):
        raise EmitError("is a folder", target, "give a file name")
    if os.path.exists(target) and not os.path.isfile(target):
        raise EmitError("is a device, not a file", target, "give a file name")
    folder = os.path.dirname(os.path.realpath(target))
    if not os.path.isdir(folder):
        shown = os.path.dirname(target) or folder
        raise EmitError("the folder does not exist", target, f"create {shown} first")
    if not os.access(folder, os.W_OK):
        raise EmitError("the folder is not writable", target, "choose another folder")

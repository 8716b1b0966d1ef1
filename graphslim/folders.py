"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import tempfile
from typing import Iterator, List

from graphslim import parts
from graphslim.errors import EmitError

_HERE = -100
"""`AT_FDCWD`: paths count from the current folder."""
_EXCHANGE = 2
"""`RENAME_EXCHANGE`."""
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
"""What a system or a file system says that cannot exchange two names."""


@contextlib.contextmanager
def replacing_folder(target: str, force: bool = False) -> Iterator[str]:
    """A new folder beside `target` that takes its place in one step when all was written.

    If anything fails, or the process is killed, `target` is as it was, or not there if it was
    not. Files of an existing folder that the new one has none of are carried over. A kill leaves
    the new folder behind; the next that writes beside it removes it, see `graphslim.parts`.

    Args:
        target: the folder; that which holds it must exist.
        force: whether `target` may be a folder that holds something.

    Raises:
        EmitError: the target cannot be written, or holds something.
    """
    path = os.path.realpath(target)
    check_folder(target, force)
    part = None
    parts.clear(os.path.dirname(path))
    try:
        part = tempfile.mkdtemp(parts.SUFFIX, parts.prefix(), os.path.dirname(path))
        yield part
        old = os.path.isdir(path)
        if old:
            _carry_over(path, part)
        os.chmod(part, stat.S_IMODE(os.stat(path).st_mode) if old else 0o777 & ~parts.umask())
        _sync(part)
        _put(part, path)
        _sync_one(os.path.dirname(path))
    except OSError as error:
        raise EmitError(
            f"cannot be written: {error.strerror or error}",
            target,
            "check the folder's permissions and space",
        ) from None
    finally:
        # By now this is what was there before, or what was not finished.
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def check_folder(target: str, force: bool = False) -> None:
    """Refuses a path that no folder can be written to.

    Args:
        target: the folder.
        force: whether it may hold something already.

    Raises:
        EmitError: so.
    """
    if not target:
        raise EmitError("an empty folder name", "output", "give a folder to write to")
    path = os.path.realpath(target)
    parent = os.path.dirname(path)
    if os.path.exists(path) and not os.path.isdir(path):
        raise EmitError("is a file, not a folder", target, "give a folder to write to")
    if path == parent or os.path.ismount(path):
        raise EmitError("cannot be replaced", target, "give a folder inside it")
    if not os.path.isdir(parent):
        raise EmitError("the folder around it does not exist", target, f"create {parent} first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise EmitError("the folder around it is not writable", target, "choose another")
    if not os.path.isdir(path):
        return
    try:
        held = os.listdir(path)
    except OSError as error:
        raise EmitError(
            f"cannot be read: {error.strerror}", target, "check its permissions"
        ) from None
    if held and not force:
        raise EmitError(
            f"the folder is not empty, it holds {sorted(held)[0]}",
            target,
            "choose another, or give --force to replace what has the same name",
        )


def _carry_over(old: str, new: str) -> None:
    """Gives the new folder the files of the old one that it has none of."""
    for place, folders, names in os.walk(old):
        there = os.path.normpath(os.path.join(new, os.path.relpath(place, old)))
        for name in list(folders):
            source, goal = os.path.join(place, name), os.path.join(there, name)
            if os.path.islink(source):
                names.append(name)
            elif not os.path.lexists(goal):
                os.mkdir(goal)
                shutil.copystat(source, goal)
            elif not os.path.isdir(goal):
                folders.remove(name)
        for name in names:
            source, goal = os.path.join(place, name), os.path.join(there, name)
            if not os.path.lexists(goal):
                _link(source, goal)


def _link(source: str, goal: str) -> None:
    """The same file under another name, or a copy where a file system has no such links."""
    try:
        os.link(source, goal, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, goal, follow_symlinks=False)


def _sync(folder: str) -> None:
    """Waits until all that is in a folder is on the disk."""
    for place, _, names in os.walk(folder, topdown=False):
        paths: List[str] = [os.path.join(place, name) for name in names]
        for path in [one for one in paths if os.path.isfile(one) and not os.path.islink(one)]:
            _sync_one(path)
        _sync_one(place)


def _sync_one(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(part: str, target: str) -> None:
    """Makes the new folder the target; the old one is then where the new one was."""
    if not os.path.isdir(target) or not os.listdir(target):
        os.rename(part, target)
    elif not _exchange(part, target):
        # In two steps there is a moment without either name; what was there is not lost.
        aside = part + ".old"
        os.rename(target, aside)
        try:
            os.rename(part, target)
        except OSError:
            os.rename(aside, target)
            raise
        os.rename(aside, part)


def _exchange(one: str, other: str) -> bool:
    """Exchanges two names in one step; False where the system cannot do that."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    given = [os.fsencode(one), os.fsencode(other)]
    if rename(_HERE, given[0], _HERE, given[1], ctypes.c_uint(_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number))

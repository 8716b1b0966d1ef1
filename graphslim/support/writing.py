"""Files and folders that appear whole or not at all.

They are written beside their target and renamed. A process that is killed on the way leaves a part
behind; the next process that writes into the same folder removes it. The name of a part holds the
machine, the process id, and the time that process was started, since process ids are used again:
`.graphslim-MACHINE-PID-START-RANDOM.part`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from typing import Any, Iterator, List, Optional, Sequence

from graphslim.errors import EmitError

_SUFFIX = ".part"
_PREFIX = ".graphslim-"
_NAME = re.compile(
    re.escape(_PREFIX) + r"([0-9a-f]{8})-([1-9]\d*)-(\d+)-[^-]+" + re.escape(_SUFFIX)
)
_FORGOTTEN = 24 * 60 * 60
"""Age in seconds at which a part is removed where the system cannot tell which processes live."""
_BUFFER = 1 << 16
"""Bytes that are collected before they are written."""
_HERE = -100
"""`AT_FDCWD`: paths count from the current folder."""
_EXCHANGE = 2
"""`RENAME_EXCHANGE`."""
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
"""Errors of systems and file systems that cannot exchange two names."""


@contextlib.contextmanager
def replacing(target: str) -> Iterator[Any]:
    """A binary file beside `target` that takes its place when, and only if, all was written.

    A link is followed, and the permissions of an existing file are kept. A killed process leaves
    the unfinished file behind; the next process that writes into the folder removes it.

    Raises:
        EmitError: the target cannot be written.
    """
    check_target(target)
    path, part = os.path.realpath(target), None
    clear_parts(os.path.dirname(path))
    try:
        descriptor, part = tempfile.mkstemp(_SUFFIX, part_prefix(), os.path.dirname(path))
        with os.fdopen(descriptor, "wb", _BUFFER) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        old = os.path.exists(path)
        os.chmod(part, stat.S_IMODE(os.stat(path).st_mode) if old else 0o666 & ~_umask())
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
        EmitError: the path cannot be written to; the message says why.
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


@contextlib.contextmanager
def replacing_folder(
    target: str, force: bool = False, without: Sequence[str] = ()
) -> Iterator[str]:
    """A new folder beside `target` that takes its place in one step when all was written.

    If anything fails, or the process is killed, `target` is as it was, or not there if it was
    not. Files of an existing folder that the new one lacks are carried over. A killed process
    leaves the new folder behind; the next process that writes beside it removes it.

    Args:
        target: the folder; its parent must exist.
        force: whether `target` may be a folder that is not empty.
        without: names of files and folders in `target` that are not carried over.

    Raises:
        EmitError: the target cannot be written, or is not empty.
    """
    path = os.path.realpath(target)
    check_folder(target, force)
    part = None
    clear_parts(os.path.dirname(path))
    try:
        part = tempfile.mkdtemp(_SUFFIX, part_prefix(), os.path.dirname(path))
        yield part
        old = os.path.isdir(path)
        if old:
            _carry_over(path, part, without)
        os.chmod(part, stat.S_IMODE(os.stat(path).st_mode) if old else 0o777 & ~_umask())
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
        # After the exchange `part` holds the old folder; after an error, the unfinished one.
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def check_folder(target: str, force: bool = False) -> None:
    """Refuses a path that no folder can be written to.

    Args:
        target: the folder.
        force: whether it may hold something already.

    Raises:
        EmitError: the path cannot be written to; the message says why.
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
        names = os.listdir(path)
    except OSError as error:
        raise EmitError(
            f"cannot be read: {error.strerror}", target, "check its permissions"
        ) from None
    if names and not force:
        raise EmitError(
            f"the folder is not empty, it holds {sorted(names)[0]}",
            target,
            "choose another, or give --force to replace what has the same name",
        )


def _carry_over(old: str, new: str, without: Sequence[str]) -> None:
    """Links the files of the old folder that the new one lacks into the new one."""
    for place, folders, names in os.walk(old):
        if place == old:
            folders[:] = [name for name in folders if name not in without]
            names = [name for name in names if name not in without]
        new_place = os.path.normpath(os.path.join(new, os.path.relpath(place, old)))
        for name in list(folders):
            source, goal = os.path.join(place, name), os.path.join(new_place, name)
            if os.path.islink(source):
                names.append(name)
            elif not os.path.lexists(goal):
                os.mkdir(goal)
                shutil.copystat(source, goal)
            elif not os.path.isdir(goal):
                folders.remove(name)
        for name in names:
            source, goal = os.path.join(place, name), os.path.join(new_place, name)
            if not os.path.lexists(goal):
                _link(source, goal)


def _link(source: str, goal: str) -> None:
    """Links a file under another name, or copies it where the file system has no hard links."""
    try:
        os.link(source, goal, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, goal, follow_symlinks=False)


def _sync(folder: str) -> None:
    """Waits until all that is in a folder is on the disk."""
    for place, _, names in os.walk(folder, topdown=False):
        paths: List[str] = [os.path.join(place, name) for name in names]
        for path in [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]:
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
        # Between the two renames the target does not exist; its old content is kept aside.
        aside = part + ".old"
        os.rename(target, aside)
        try:
            os.rename(part, target)
        except OSError:
            os.rename(aside, target)
            raise
        os.rename(aside, part)


def _exchange(first: str, second: str) -> bool:
    """Exchanges two names in one step; False where the system cannot do that."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    paths = [os.fsencode(first), os.fsencode(second)]
    if rename(_HERE, paths[0], _HERE, paths[1], ctypes.c_uint(_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number))


def part_prefix() -> str:
    """The beginning of the names of this process's parts; a random word and `_SUFFIX` follow."""
    return f"{_PREFIX}{_machine()}-{os.getpid()}-{_start_of(os.getpid()) or 0}-"


def clear_parts(folder: str) -> None:
    """Removes from a folder the parts of processes that have died, as far as permissions allow.

    Parts of other machines that share the folder stay, and those from which a folder's old content
    was not put back yet (`NAME.part.old` beside them).
    """
    for path in glob.glob(os.path.join(glob.escape(folder), f"{_PREFIX}*{_SUFFIX}")):
        named = _NAME.fullmatch(os.path.basename(path))
        if named is None or named[1] != _machine() or os.path.lexists(path + ".old"):
            continue
        if not _is_dead(int(named[2]), int(named[3]), path):
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # another run was first, or it is somebody else's
                os.unlink(path)


def _umask() -> int:
    """The permissions that this process does not give to files that it makes."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _machine() -> str:
    """A short hash of the host and its process namespace, within which process ids are unique."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _is_dead(pid: int, start: int, path: str) -> bool:
    """Whether the process that wrote a part is gone, or another process has its id by now."""
    if os.name != "posix":
        try:
            return time.time() - os.lstat(path).st_mtime > _FORGOTTEN
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # the process of another user, or no valid id of this system
    now = _start_of(pid)
    return now is not None and start not in (0, now)


def _start_of(pid: int) -> Optional[int]:
    """When a process was started, in ticks since the machine was started.

    Returns:
        the ticks; -1 if the process has ended but was not waited for; None if that is unknown.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program comes second, in brackets, and may hold anything.
            fields = file.read().rpartition(b")")[2].split()
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None

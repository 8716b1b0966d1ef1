"""Files and folders that appear whole or not at all.

They are written beside their target and renamed. A process that is killed on the way leaves a part
behind; the next that writes into the same folder removes it. The name of a part says on which
machine, by which process, and when that process was started, since process ids are used again:
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
from typing import Any, Iterator, List, Optional

from graphslim.errors import EmitError

_SUFFIX = ".part"
_PREFIX = ".graphslim-"
_NAME = re.compile(
    re.escape(_PREFIX) + r"([0-9a-f]{8})-([1-9]\d*)-(\d+)-[^-]+" + re.escape(_SUFFIX)
)
_FORGOTTEN = 24 * 60 * 60
"""Seconds after which a part is nobody's, where the system does not say which processes live."""
_HERE = -100
"""`AT_FDCWD`: paths count from the current folder."""
_EXCHANGE = 2
"""`RENAME_EXCHANGE`."""
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
"""What a system or a file system says that cannot exchange two names."""


@contextlib.contextmanager
def replacing(target: str) -> Iterator[Any]:
    """A binary file beside `target` that takes its place when, and only if, all was written.

    A link is followed, and what a file was allowed to whom stays so. A kill leaves the unfinished
    file behind; the next that writes into the folder removes it.

    Raises:
        EmitError: the target cannot be written.
    """
    check_target(target)
    path, part = os.path.realpath(target), None
    clear_parts(os.path.dirname(path))
    try:
        descriptor, part = tempfile.mkstemp(_SUFFIX, part_prefix(), os.path.dirname(path))
        with os.fdopen(descriptor, "wb") as file:
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
def replacing_folder(target: str, force: bool = False) -> Iterator[str]:
    """A new folder beside `target` that takes its place in one step when all was written.

    If anything fails, or the process is killed, `target` is as it was, or not there if it was
    not. Files of an existing folder that the new one has none of are carried over. A kill leaves
    the new folder behind; the next that writes beside it removes it.

    Args:
        target: the folder; that which holds it must exist.
        force: whether `target` may be a folder that holds something.

    Raises:
        EmitError: the target cannot be written, or holds something.
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
            _carry_over(path, part)
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
        # By now this is what was there before, or what was not finished.
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
        # In two steps there is a moment without either name; what was there is not lost.
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
    given = [os.fsencode(first), os.fsencode(second)]
    if rename(_HERE, given[0], _HERE, given[1], ctypes.c_uint(_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number))


def part_prefix() -> str:
    """How the names of this process's parts begin; a random word and `_SUFFIX` follow."""
    return f"{_PREFIX}{_machine()}-{os.getpid()}-{_start_of(os.getpid()) or 0}-"


def clear_parts(folder: str) -> None:
    """Removes from a folder the parts of processes that have died; what cannot go is left.

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
    """A short word for where process ids mean what they mean here: the host, and its container."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _is_dead(pid: int, start: int, path: str) -> bool:
    """Whether the process that wrote a part is gone, or its id is another one's by now."""
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
        pass  # another user's, or no id that this system gives
    now = _start_of(pid)
    return now is not None and start not in (0, now)


def _start_of(pid: int) -> Optional[int]:
    """When a process was started, in ticks since the machine was.

    Returns:
        -1 if it has ended, and its parent has not asked for its status; None if nothing tells.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program comes second, in brackets, and may hold anything.
            fields = file.read().rpartition(b")")[2].split()
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None

"""Names of what is being written: they tell whose it is, so that a dead process's is removed.

Files and folders are written beside their target and renamed. A process that is killed on the way
leaves a part behind; the next that writes into the same folder removes it. The name says on which
machine, by which process, and when that process was started, since process ids are used again:
`.graphslim-MACHINE-PID-START-RANDOM.part`.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shutil
import socket
import time
from typing import Optional

SUFFIX = ".part"
_PREFIX = ".graphslim-"
_NAME = re.compile(re.escape(_PREFIX) + r"([0-9a-f]{8})-([1-9]\d*)-(\d+)-[^-]+" + re.escape(SUFFIX))
_FORGOTTEN = 24 * 60 * 60
"""Seconds after which a part is nobody's, where the system does not say which processes live."""


def prefix() -> str:
    """How the names of this process's parts begin; a random word and `SUFFIX` follow."""
    return f"{_PREFIX}{_machine()}-{os.getpid()}-{_start_of(os.getpid()) or 0}-"


def clear(folder: str) -> None:
    """Removes from a folder the parts of processes that have died; what cannot go is left.

    Parts of other machines that share the folder stay, and those from which a folder's old content
    was not put back yet (`NAME.part.old` beside them).
    """
    for path in glob.glob(os.path.join(glob.escape(folder), f"{_PREFIX}*{SUFFIX}")):
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


def umask() -> int:
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

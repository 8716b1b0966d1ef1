"""Converters, run in a process of their own: they print, take memory, and abort on some graphs."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import tempfile
from typing import IO, Any, Dict, Mapping, Optional

from graphslim import errors
from graphslim.errors import EmitError, GraphslimError, elided

_LENGTH = struct.Struct("<Q")
_CODE = "import sys; sys.path[:] = {paths!r}; from graphslim.delivery.child import main; main()"
_SAID = 4000
"""Bytes at the end of what a converter printed that are looked at."""
_NOISE = (
    *("Fatal Python error", "Current thread", "Thread 0x", "*** ", "Aborted"),
    *("File ", "Traceback", "/", "<unknown>", "See console for info"),
)
"""What begins lines that stand around the reason of a failure."""
_FATAL = re.compile(r"^\S+ [\d:.]+: F \S+\] (.*)")
"""A line in which TensorFlow logs why it ends its process."""


class Converter:
    """A process that converts graphs, one after the other; a context manager.

    It is started with the first conversion. Nothing of what it prints reaches the terminal. It is
    no worker of a pool, which would run the user's script a second time.
    """

    def __init__(self) -> None:
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._log: Optional[IO[bytes]] = None

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process, and those that it has started."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def convert(self, kind: str, where: str, request: Mapping[str, Any]) -> Dict[str, bytes]:
        """Converts a graph.

        Args:
            kind: the format, one of `formats`.
            where: the file or folder to be written, for messages.
            request: the keyword arguments of the format's `convert`.

        Returns:
            the content of the files by path within the folder; of a single file by the empty path.

        Raises:
            EmitError: the converter does not take the graph, or aborted.
            RuntimeUnavailable: a package is missing.
        """
        try:
            process = self._process or self._start()
            send(process.stdin, (kind, dict(request)))
            answer = receive(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            said = self._last_line()
            self.close()
            raise EmitError(
                f"the converter aborted{': ' if said else ''}{said}",
                where,
                "convert with another TensorFlow, or write a .pb",
            ) from error
        except OSError as error:
            self.close()
            raise EmitError(
                f"cannot be written: {error.strerror or error}", where, "check memory and space"
            ) from error
        if isinstance(answer, dict):
            return answer
        name, what, place, hint = answer
        refused: GraphslimError = getattr(errors, name)(what, place or where, hint)
        raise refused

    def _start(self) -> subprocess.Popen[bytes]:
        """Starts the process; Ctrl-C reaches this process alone, which ends the other."""
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            # By itself it would import what lies in the current folder, such as an onnx.py.
            [sys.executable, "-c", _CODE.format(paths=[package, *map(os.fsdecode, sys.path)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        return self._process

    def _last_line(self) -> str:
        """What the process printed last that tells why it ended."""
        if self._log is None:
            return ""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _SAID))
        return reason(self._log.read().decode("utf-8", "replace"), -1)


def reason(text: str, place: int) -> str:
    """The line of what a converter printed that tells why it failed; empty without one.

    Args:
        text: what it printed.
        place: which line that is where none says so: 0 for the first, -1 for the last.
    """
    lines = [line.strip() for line in text.splitlines()]
    fatal = [found[1] for found in map(_FATAL.match, lines) if found is not None]
    told = fatal or [line for line in lines if line and not line.startswith(_NOISE)]
    return elided(told[place], 300) if told else ""


def send(pipe: Any, message: Any) -> None:
    """Writes a message to a pipe."""
    content = pickle.dumps(message, protocol=4)
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def receive(pipe: Any) -> Any:
    """Reads a message from a pipe.

    Raises:
        EOFError: the process at the other end is gone.
    """
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    content = pipe.read(length)
    if len(content) < length:
        raise EOFError
    return pickle.loads(content)

"""Work that takes no TensorFlow, for tests of those who share it out."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from graphslim.support import workers as sharing
from graphslim.support.workers import Job


def fake_job(seconds: float = 0.0) -> Job:
    """A job whose tasks, a group and a number, give a digest of these, each after some seconds."""
    return Job(_opened, (seconds,))


def _opened(seconds: float) -> Any:
    def digest(group: str, removed: int) -> float:
        time.sleep(seconds)
        return hashlib.sha256(f"{group} {removed}".encode()).digest()[0] / 256

    return digest


class Lossy(Executor):
    """Runs tasks here, and loses each of the first few."""

    def __init__(self, lost: int) -> None:
        self.lost, self.tasks = lost, []  # type: int, List[Any]

    def submit(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        future: Any = Future()
        self.tasks.append(args)
        if self.lost:
            self.lost -= 1
            future.set_exception(EOFError("gone"))
            return future
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


@pytest.fixture
def knows_nothing(monkeypatch: Any) -> None:
    """This process, as an executor finds one that has done no work yet."""
    monkeypatch.setattr(sharing, "_WORKERS", {})
    monkeypatch.setattr(sharing, "_JOBS", {})

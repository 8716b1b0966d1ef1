"""Work that takes no TensorFlow, for tests of those who share it out."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from graphslim.support.workers import Job


def fake_job(seconds: float = 0.0) -> Job:
    """A job whose tasks, a group and a number, give a digest of these, each after some seconds."""
    return Job(_opened, (seconds,))


def _opened(seconds: float) -> Any:
    def digest(group: str, removed: int) -> float:
        time.sleep(seconds)
        return hashlib.sha256(f"{group} {removed}".encode()).digest()[0] / 256

    return digest

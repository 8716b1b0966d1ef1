"""Measurements that take no TensorFlow, for tests of those who share them out."""

from __future__ import annotations

import hashlib
import time
from typing import Any, NamedTuple

from graphslim.plans.curves import Loss


class FakeJob(NamedTuple):
    """A job whose losses are digests of what is measured.

    Attributes:
        seconds: what a measurement takes.
    """

    seconds: float = 0.0

    @property
    def key(self) -> str:
        return f"fake {self.seconds}"

    def evaluator(self) -> Any:
        return self

    def measure(self, group: str, removed: int) -> Loss:
        time.sleep(self.seconds)
        digest = hashlib.sha256(f"{group} {removed}".encode()).digest()
        return Loss(group, 100, removed, digest[0] / 256)

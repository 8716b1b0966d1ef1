"""The class `Pruning`, as its users know it from tf1pruning, on top of the checkpoint route."""

from __future__ import annotations

from graphslim.method.pruning import Pruning

__all__ = ["Pruning"]

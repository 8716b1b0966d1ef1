"""Names that rules import, which live in `channels`."""

from __future__ import annotations

from graphslim.channels.rules import stated, wall

__all__ = ["stated", "wall"]

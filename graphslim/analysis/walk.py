"""Names that others import, which live in `channels.walk`."""

from __future__ import annotations

from graphslim.channels.walk import ParamAxis, Walk

__all__ = ["ParamAxis", "Walk"]

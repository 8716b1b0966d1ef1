"""Names that rules import, which live in `channels`."""

from __future__ import annotations

from graphslim.channels.facts import spread

__all__ = ["spread"]

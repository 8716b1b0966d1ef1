"""Names that others import, which live in `channels.groups`."""

from __future__ import annotations

from graphslim.channels.groups import Copies, copies_needed

__all__ = ["Copies", "copies_needed"]

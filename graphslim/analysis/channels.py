"""Names that others import, which live in `channels.groups`."""

from __future__ import annotations

from graphslim.channels.groups import (
    ROLES,
    Binding,
    Channels,
    Group,
    Labels,
    analyse,
)

__all__ = ["ROLES", "Binding", "Channels", "Group", "Labels", "analyse"]

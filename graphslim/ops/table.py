"""Names that rules import, which live in `channels`."""

from __future__ import annotations

from graphslim.channels.facts import (
    UNKNOWN,
    Dims,
    Fact,
    Ids,
    axes_of,
    channel_axis,
    fact,
    integers,
    known,
    per_channel,
    product,
    spatial_axes,
)
from graphslim.channels.rules import (
    CHANNEL_RULES,
    COST_RULES,
    STRUCTURAL,
    VALUE_RULES,
    ValueVisit,
    channel_rule,
    cost_rule,
    value_rule,
)
from graphslim.channels.visit import Contraction, OpVisit

__all__ = [
    "CHANNEL_RULES",
    "COST_RULES",
    "STRUCTURAL",
    "UNKNOWN",
    "VALUE_RULES",
    "Contraction",
    "Dims",
    "Fact",
    "Ids",
    "OpVisit",
    "ValueVisit",
    "axes_of",
    "channel_axis",
    "channel_rule",
    "cost_rule",
    "fact",
    "integers",
    "known",
    "per_channel",
    "product",
    "spatial_axes",
    "value_rule",
]

"""graphslim: a compiler that makes TensorFlow graphs narrower."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from graphslim._version import __version__
from graphslim.analysis.channels import Channels, Group, analyse
from graphslim.analysis.cost import Cost, cost
from graphslim.analysis.cost import needed as needed_nodes
from graphslim.api import (
    find_blocks,
    load,
    open_checkpoint,
    plan,
    soft_prune,
    strip,
    summary,
    verify,
)
from graphslim.criteria import criteria, criterion
from graphslim.errors import GraphslimError
from graphslim.graphdef import save, serialize, to_graph_def
from graphslim.ir import (
    CONTROL,
    IDENTITY_OPS,
    Attrs,
    Block,
    DType,
    Graph,
    Node,
    Port,
    Shape,
    Tensor,
)
from graphslim.layout import to_nhwc
from graphslim.match import Match, Matcher
from graphslim.method import Pruning
from graphslim.ops.table import channel_rule, cost_rule, value_rule
from graphslim.pattern import Pattern, Var, block_pattern
from graphslim.pipeline import Dump, FindBlocks, Outcome, Pass, Pipeline, Timing, Verify, register
from graphslim.plans import DEAD_BELOW, GroupSettings, Plan, Selection, plan_dead
from graphslim.rewrite import apply, apply_in_place, fold_conditionals, zero_consumers
from graphslim.sampling import Samples

__all__ = [
    "CONTROL",
    "DEAD_BELOW",
    "IDENTITY_OPS",
    "Attrs",
    "Block",
    "Channels",
    "Cost",
    "DType",
    "Dump",
    "FindBlocks",
    "Graph",
    "GraphslimError",
    "Group",
    "GroupSettings",
    "Match",
    "Matcher",
    "Node",
    "Outcome",
    "Pass",
    "Pattern",
    "Pipeline",
    "Plan",
    "Port",
    "Pruning",
    "Samples",
    "Selection",
    "Shape",
    "Tensor",
    "Timing",
    "Var",
    "Verify",
    "__version__",
    "analyse",
    "apply",
    "apply_in_place",
    "block_pattern",
    "channel_rule",
    "cost",
    "cost_rule",
    "criteria",
    "criterion",
    "find_blocks",
    "fold_conditionals",
    "load",
    "needed_nodes",
    "open_checkpoint",
    "plan",
    "plan_dead",
    "register",
    "save",
    "serialize",
    "soft_prune",
    "strip",
    "summary",
    "to_graph_def",
    "to_nhwc",
    "value_rule",
    "verify",
    "zero_consumers",
]


def __getattr__(name: str) -> Any:
    """`graphslim.training`, on its first use: it needs TensorFlow, which takes seconds to load."""
    if name == "training":
        return import_module("graphslim.training")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""graphslim: a compiler that makes TensorFlow graphs narrower."""

from __future__ import annotations

from graphslim._version import __version__
from graphslim.analysis.channels import Channels, Group, analyse
from graphslim.analysis.cost import Cost, cost
from graphslim.analysis.cost import needed as needed_nodes
from graphslim.api import find_blocks, load, plan, verify
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
from graphslim.ops.table import channel_rule, cost_rule, value_rule
from graphslim.pattern import Pattern, Var, block_pattern
from graphslim.pipeline import Dump, FindBlocks, Outcome, Pass, Pipeline, Timing, Verify, register
from graphslim.plans import DEAD_BELOW, GroupSettings, Plan, Selection, plan_dead
from graphslim.rewrite import apply, apply_in_place, zero_consumers
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
    "load",
    "needed_nodes",
    "plan",
    "plan_dead",
    "register",
    "save",
    "serialize",
    "to_graph_def",
    "to_nhwc",
    "value_rule",
    "verify",
    "zero_consumers",
]

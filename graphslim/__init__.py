"""graphslim: a compiler that makes TensorFlow graphs narrower."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphslim._version import __version__
from graphslim.analysis.cost import Cost, cost
from graphslim.analysis.values import Values
from graphslim.api import (
    find_blocks,
    load,
    plan,
    soft_prune,
    strip,
    summary,
)
from graphslim.channels.facts import Fact, channel_axis
from graphslim.channels.groups import Channels, Group, analyse
from graphslim.channels.rules import ValueVisit
from graphslim.channels.visit import OpVisit
from graphslim.errors import GraphslimError
from graphslim.graphdef import drop_functions, serialize, to_graph_def
from graphslim.ir import (
    CONTROL,
    IDENTITIES,
    Attrs,
    Block,
    DType,
    Graph,
    Node,
    Port,
    Shape,
    Tensor,
    Use,
    families,
)
from graphslim.ir.query import bypass, remove_unread
from graphslim.ir.query import needed as needed_nodes
from graphslim.layout import LayoutVisit, layout_rule, to_nhwc
from graphslim.match import Match, Matcher
from graphslim.measure.images import Images
from graphslim.measure.samples import Samples
from graphslim.measure.verify import verify
from graphslim.ops import channel_rule, cost_rule, value_rule
from graphslim.pattern import Pattern, Var, block_pattern
from graphslim.pipeline import (
    CheckInvariants,
    Dump,
    FindBlocks,
    Outcome,
    Pass,
    Pipeline,
    Timing,
    register,
)
from graphslim.pipeline.presets import optimize
from graphslim.plans import DEAD_BELOW, GroupSettings, Plan, Selection, plan_dead
from graphslim.rewrite import (
    Affine,
    affine,
    apply,
    apply_in_place,
    fold_conditionals,
    zero_consumers,
)
from graphslim.rewrite.save import save
from graphslim.scoring import criteria, criterion
from graphslim.support.importing import names_of

if TYPE_CHECKING:
    from graphslim.checkpoint import open_checkpoint
    from graphslim.method import Pruning

# What only checkpoints take; `training` needs TensorFlow, which takes seconds to load.
__getattr__ = names_of(
    __name__,
    {
        "Pruning": "graphslim.method",
        "open_checkpoint": "graphslim.checkpoint",
        "training": "graphslim.training",
    },
)

__all__ = [
    "CONTROL",
    "DEAD_BELOW",
    "IDENTITIES",
    "Affine",
    "Attrs",
    "Block",
    "Channels",
    "Cost",
    "DType",
    "Dump",
    "Fact",
    "FindBlocks",
    "Graph",
    "GraphslimError",
    "Group",
    "GroupSettings",
    "Images",
    "LayoutVisit",
    "Match",
    "Matcher",
    "Node",
    "OpVisit",
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
    "Use",
    "ValueVisit",
    "Values",
    "Var",
    "CheckInvariants",
    "__version__",
    "affine",
    "analyse",
    "apply",
    "apply_in_place",
    "block_pattern",
    "bypass",
    "channel_axis",
    "channel_rule",
    "cost",
    "cost_rule",
    "criteria",
    "criterion",
    "drop_functions",
    "families",
    "find_blocks",
    "fold_conditionals",
    "layout_rule",
    "load",
    "needed_nodes",
    "open_checkpoint",
    "optimize",
    "plan",
    "plan_dead",
    "register",
    "remove_unread",
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

"""graphslim: a compiler that makes TensorFlow graphs narrower.

A public name is imported when it is first asked for: the command line starts without numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List

from graphslim._version import __version__
from graphslim.support.importing import bring, names_of

if TYPE_CHECKING:
    from graphslim import training as training
    from graphslim.analysis.cost import Cost as Cost
    from graphslim.analysis.cost import cost as cost
    from graphslim.analysis.values import Values as Values
    from graphslim.api import find_blocks as find_blocks
    from graphslim.api import load as load
    from graphslim.api import plan as plan
    from graphslim.api import prune_gradually as prune_gradually
    from graphslim.api import sensitivity as sensitivity
    from graphslim.api import soft_prune as soft_prune
    from graphslim.api import strip as strip
    from graphslim.api import summary as summary
    from graphslim.channels.facts import Fact as Fact
    from graphslim.channels.facts import channel_axis as channel_axis
    from graphslim.channels.groups import Channels as Channels
    from graphslim.channels.groups import Group as Group
    from graphslim.channels.groups import analyse as analyse
    from graphslim.channels.rules import ValueVisit as ValueVisit
    from graphslim.channels.visit import OpVisit as OpVisit
    from graphslim.checkpoint import open_checkpoint as open_checkpoint
    from graphslim.delivery import export as export
    from graphslim.errors import GraphslimError as GraphslimError
    from graphslim.graphdef import drop_functions as drop_functions
    from graphslim.graphdef import serialize as serialize
    from graphslim.graphdef import to_graph_def as to_graph_def
    from graphslim.ir import CONTROL as CONTROL
    from graphslim.ir import IDENTITIES as IDENTITIES
    from graphslim.ir import Attrs as Attrs
    from graphslim.ir import Block as Block
    from graphslim.ir import DType as DType
    from graphslim.ir import Graph as Graph
    from graphslim.ir import Node as Node
    from graphslim.ir import Port as Port
    from graphslim.ir import Shape as Shape
    from graphslim.ir import Tensor as Tensor
    from graphslim.ir import Use as Use
    from graphslim.ir import families as families
    from graphslim.ir.query import bypass as bypass
    from graphslim.ir.query import needed as needed_nodes
    from graphslim.ir.query import remove_unread as remove_unread
    from graphslim.layout import LayoutVisit as LayoutVisit
    from graphslim.layout import layout_rule as layout_rule
    from graphslim.layout import to_nhwc as to_nhwc
    from graphslim.match import Match as Match
    from graphslim.match import Matcher as Matcher
    from graphslim.measure.images import Images as Images
    from graphslim.measure.models import verify as verify
    from graphslim.measure.samples import Samples as Samples
    from graphslim.method import Pruning as Pruning
    from graphslim.ops import channel_rule as channel_rule
    from graphslim.ops import cost_rule as cost_rule
    from graphslim.ops import value_rule as value_rule
    from graphslim.pattern import Pattern as Pattern
    from graphslim.pattern import Var as Var
    from graphslim.pattern import block_pattern as block_pattern
    from graphslim.pipeline import CheckInvariants as CheckInvariants
    from graphslim.pipeline import Dump as Dump
    from graphslim.pipeline import FindBlocks as FindBlocks
    from graphslim.pipeline import Outcome as Outcome
    from graphslim.pipeline import Pass as Pass
    from graphslim.pipeline import Pipeline as Pipeline
    from graphslim.pipeline import Timing as Timing
    from graphslim.pipeline import register as register
    from graphslim.pipeline.presets import optimize as optimize
    from graphslim.plans import DEAD_BELOW as DEAD_BELOW
    from graphslim.plans import GroupSettings as GroupSettings
    from graphslim.plans import Plan as Plan
    from graphslim.plans import Selection as Selection
    from graphslim.plans import plan_dead as plan_dead
    from graphslim.plans.curves import Curves as Curves
    from graphslim.recovery import Repaired as Repaired
    from graphslim.recovery import repair as repair
    from graphslim.rewrite import Affine as Affine
    from graphslim.rewrite import affine as affine
    from graphslim.rewrite import apply as apply
    from graphslim.rewrite import apply_in_place as apply_in_place
    from graphslim.rewrite import fold_conditionals as fold_conditionals
    from graphslim.rewrite import recover_plan as recover_plan
    from graphslim.rewrite import zero_consumers as zero_consumers
    from graphslim.rewrite.save import save as save
    from graphslim.scoring import criteria as criteria
    from graphslim.scoring import criterion as criterion

_PUBLIC = {
    "analysis.cost": "Cost cost",
    "analysis.values": "Values",
    "api": "find_blocks load plan prune_gradually sensitivity soft_prune strip summary",
    "channels.facts": "Fact channel_axis",
    "channels.groups": "Channels Group analyse",
    "channels.rules": "ValueVisit",
    "channels.visit": "OpVisit",
    "checkpoint": "open_checkpoint",
    "delivery": "export",
    "errors": "GraphslimError",
    "graphdef": "drop_functions serialize to_graph_def",
    "ir": "CONTROL IDENTITIES Attrs Block DType Graph Node Port Shape Tensor Use families",
    "ir.query": "bypass remove_unread",
    "layout": "LayoutVisit layout_rule to_nhwc",
    "match": "Match Matcher",
    "measure.images": "Images",
    "measure.models": "verify",
    "measure.samples": "Samples",
    "method": "Pruning",
    "ops": "channel_rule cost_rule value_rule",
    "pattern": "Pattern Var block_pattern",
    "pipeline": "CheckInvariants Dump FindBlocks Outcome Pass Pipeline Timing register",
    "pipeline.presets": "optimize",
    "plans": "DEAD_BELOW GroupSettings Plan Selection plan_dead",
    "plans.curves": "Curves",
    "recovery": "Repaired repair",
    "rewrite": "Affine affine apply apply_in_place fold_conditionals recover_plan zero_consumers",
    "rewrite.save": "save",
    "scoring": "criteria criterion",
}
"""By module, the public names that are imported from it on first use: those above."""
_PLACES = {name: f"graphslim.{at}" for at, names in _PUBLIC.items() for name in names.split()}
_PLACES["needed_nodes"] = "graphslim.ir.query:needed"

__all__ = ["__version__", "needed_nodes"]
__all__ += sorted({*_PLACES} - {*__all__})
if not TYPE_CHECKING:  # to whom any name would be an attribute
    __getattr__ = names_of(__name__, _PLACES)

# Where definitions are looked up stands below what defines them, and is told here what there is.
bring("graphslim.ops", "rules of ops")
bring("graphslim.passes", "passes")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})

"""Results for people (rich tables) and for machines (JSON trees)."""

from graphslim.show.agreement import print_agreement
from graphslim.show.checkpoint import print_summary, soft_pruning, stripping
from graphslim.show.console import Console, print_table, print_times
from graphslim.show.differences import difference_tree, print_differences
from graphslim.show.inspection import (
    explanation,
    inspection,
    pinned_by,
    print_explanation,
    print_inspection,
    print_why_not,
)
from graphslim.show.optimizing import print_optimizing
from graphslim.show.plan_diff import plan_difference, print_plan_difference
from graphslim.show.planning import print_plan
from graphslim.show.pruning import print_achieved, print_pruning, pruning

__all__ = [
    "Console",
    "difference_tree",
    "explanation",
    "inspection",
    "pinned_by",
    "plan_difference",
    "print_achieved",
    "print_agreement",
    "print_differences",
    "print_explanation",
    "print_inspection",
    "print_optimizing",
    "print_plan",
    "print_plan_difference",
    "print_pruning",
    "print_summary",
    "print_table",
    "print_times",
    "print_why_not",
    "pruning",
    "soft_pruning",
    "stripping",
]

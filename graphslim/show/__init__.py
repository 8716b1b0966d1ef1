"""Results for people (rich tables) and for machines (JSON trees)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphslim.support.importing import names_of

if TYPE_CHECKING:
    from graphslim.show.agreement import print_agreement
    from graphslim.show.checkpoint import print_summary, soft_pruning, stripping
    from graphslim.show.console import Console, print_pairs, print_table, print_times
    from graphslim.show.differences import difference_tree, print_differences
    from graphslim.show.inspecting import (
        explanation,
        inspection,
        pinned_by,
        print_explanation,
        print_groups,
        print_inspection,
        print_why_not,
    )
    from graphslim.show.optimizing import print_optimizing
    from graphslim.show.plan_diff import plan_difference, print_plan_difference
    from graphslim.show.planning import print_plan
    from graphslim.show.pruned import print_achieved, print_pruning, pruning

__getattr__ = names_of(
    __name__,
    {
        "print_agreement": "graphslim.show.agreement",
        "print_summary": "graphslim.show.checkpoint",
        "soft_pruning": "graphslim.show.checkpoint",
        "stripping": "graphslim.show.checkpoint",
        "Console": "graphslim.show.console",
        "print_pairs": "graphslim.show.console",
        "print_table": "graphslim.show.console",
        "print_times": "graphslim.show.console",
        "difference_tree": "graphslim.show.differences",
        "print_differences": "graphslim.show.differences",
        "explanation": "graphslim.show.inspecting",
        "inspection": "graphslim.show.inspecting",
        "pinned_by": "graphslim.show.inspecting",
        "print_explanation": "graphslim.show.inspecting",
        "print_groups": "graphslim.show.inspecting",
        "print_inspection": "graphslim.show.inspecting",
        "print_why_not": "graphslim.show.inspecting",
        "print_optimizing": "graphslim.show.optimizing",
        "plan_difference": "graphslim.show.plan_diff",
        "print_plan_difference": "graphslim.show.plan_diff",
        "print_plan": "graphslim.show.planning",
        "print_achieved": "graphslim.show.pruned",
        "print_pruning": "graphslim.show.pruned",
        "pruning": "graphslim.show.pruned",
    },
)

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
    "print_groups",
    "print_inspection",
    "print_optimizing",
    "print_pairs",
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

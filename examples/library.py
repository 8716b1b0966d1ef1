"""graphslim as a library: load, plan, apply, verify, save.

python examples/library.py model.pb slim.pb
"""

from __future__ import annotations

import sys

import graphslim as gs


def main(model: str, target: str) -> None:
    """Removes the dead channels of a model, checks that the outputs stay, writes the result."""
    graph = gs.load(model)

    # Nothing is changed so far: which channels of which groups, and every constant that it cuts.
    plan = gs.plan(graph, scope="all")
    for group in plan.groups:
        print(f"{group.block or group.id}: {len(group.removed)} of {group.channels} channels")

    # The graph itself stays as it is; `slim` is another.
    slim = gs.apply(graph, plan)
    before, after = gs.cost(graph), gs.cost(slim)
    print(f"{before.params} -> {after.params} parameters")

    # Runs both on the same random images; this is all that needs TensorFlow.
    agreement = gs.verify(graph, slim)
    print(f"the outputs differ by {agreement.worst.relative:.2g} of their range")
    if agreement.ok:
        gs.save(slim, target)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

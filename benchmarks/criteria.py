"""Shows what each criterion leaves of the digits network when much goes and nothing is trained."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import graphslim as gs
from graphslim.runtime import Session

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def main() -> None:
    """Prints a table: how many of the sample digits are still read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--macs", type=float, default=0.4, help="the share that remains")
    options = parser.parse_args()
    graph = gs.load(str(FIXTURES / "digits_mobilenet_v2_se.pb"))
    sample = np.load(str(FIXTURES / "digits_sample.npz"))
    images = {name: sample[name] for name in graph.inputs}
    (labels,) = [sample[name] for name in sample.files if name not in graph.inputs]
    for name in sorted(gs.criteria()):
        plan = gs.plan(graph, criterion=name, macs=options.macs, data=images)
        with Session(gs.apply(graph, plan)) as session:
            right = session.run(images)[0].argmax(axis=-1) == labels
        print(f"{name:12}  {right.sum():3} of {len(right)}  MACs {plan.achieved.achieved:.3f}")


if __name__ == "__main__":
    main()

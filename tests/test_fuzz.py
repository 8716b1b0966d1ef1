"""A minute of `make fuzz`: the same trials each time, so that a fault is one of the change."""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest

fuzzing = pytest.importorskip("fuzzing", reason="needs fork and resource limits")

TRIALS, PARTS = 300, 6


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_files_end_in_one_line(part: int, tmp_path: Path) -> None:
    graphs = fuzzing.seeds()
    plan = fuzzing.plan_of(graphs[0], tmp_path)
    faults: List[str] = []
    for number in range(part, TRIALS, PARTS):
        one = fuzzing.trial(number, graphs, plan)
        verdict = fuzzing.run(one, tmp_path / "trial")
        if verdict.fault is not None:
            faults.append(f"trial {number} ({' '.join(one.arguments)}): {verdict}")
    assert not faults, "\n".join([*faults, "see tools/fuzz.py --seed NUMBER --count 1"])

"""Damages graphs, plans and texts, and runs graphslim on them: no traceback, no hang, no bomb.

    python tools/fuzz.py --seconds 3600 --out build/fuzz

Every trial follows from its number, which a fault is reported with. What fails is kept in the
folder, beside the command line that shows it again.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import fuzzing  # noqa: E402


def main() -> int:
    """Runs trials until the time is over; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=None, help="the number of the first trial")
    parser.add_argument("--count", type=int, default=None, help="so many trials and no more")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--graphs", type=Path, nargs="*", default=[], help="folders of more .pb")
    options = parser.parse_args()
    number = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"fuzz: trials from number {number} (--seed {number} runs them again)", flush=True)
    found: Counter = Counter()
    # Where atheris is installed it gets the second half of the time.
    guided = options.count is None and importlib.util.find_spec("atheris") is not None
    own = options.seconds / 2 if guided else options.seconds
    done, end = 0, time.monotonic() + own
    with tempfile.TemporaryDirectory() as scratch:
        graphs = fuzzing.seeds(options.graphs)
        plan = fuzzing.plan_of(graphs[0], Path(scratch))
        while time.monotonic() < end and done != options.count:
            one = fuzzing.trial(number + done, graphs, plan)
            verdict = fuzzing.run(one, Path(scratch) / "trial")
            done += 1
            if verdict.fault is not None:
                line = (verdict.said.strip().splitlines() or [""])[-1]
                found[f"{verdict.fault}: {line[:160]}"] += 1
                keep(one, f"{verdict.fault}\n{verdict.said}", options.out)
    for text, times in found.most_common():
        print(f"{times:5} {text}")
    print(f"fuzz: {done} trials, {sum(found.values())} faults", flush=True)
    failed = guided and _guided(options.out, options.seconds - own, number) != 0
    return 1 if found or failed else 0


def _guided(out: Path, seconds: float, seed: int) -> int:
    """Runs atheris for a while; its exit status."""
    script = str(ROOT / "tools" / "fuzz_coverage.py")
    words = [str(out), "--seconds", str(max(1, int(seconds))), "--seed", str(seed)]
    return subprocess.run([sys.executable, script, *words]).returncode


def keep(one: fuzzing.Trial, text: str, out: Path) -> None:
    """Puts a trial that failed into a folder, with the command that shows it again."""
    folder = out / str(one.number)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**one.beside, one.name: one.data}.items():
        (folder / name).write_bytes(data)
    words: List[str] = [one.name if word == "FILE" else word for word in one.arguments]
    (folder / "command").write_text(f"graphslim {' '.join(words)} --debug\n\n{text}")


if __name__ == "__main__":
    sys.exit(main())

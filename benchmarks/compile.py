"""Times graphslim and its peers on one network, in turns, in one process.

    python -m benchmarks.compile turns FOLDER PLATFORM NETWORK ROUNDS
    python -m benchmarks.compile alone FOLDER PLATFORM NETWORK CONTENDER
    python -m benchmarks.compile shell FOLDER PLATFORM NETWORK ROUNDS

`alone` gives the peak memory of one contender in a process of its own, `shell` the wall time of
whole commands.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

import graphslim as gs
from benchmarks.peers import Contender, contenders
from benchmarks.work import ROOT, Files, peak_megabytes, quartiles, tell


def turns(files: Files, platform: str, rounds: int, folder: Path) -> Dict[str, Any]:
    """Milliseconds of each step of each contender, and of the whole, round by round.

    A contender that raises an error is left out, and its error told. The first round, in which all
    import what they need, does not count.
    """
    found = contenders(files, platform, folder / "out.pb")
    seconds: Dict[str, List[Dict[str, float]]] = {one.name: [] for one in found}
    errors: Dict[str, str] = {}
    for number in range(rounds + 1):
        for one in found if number % 2 == 0 else found[::-1]:
            if one.name in errors:
                continue
            try:
                taken = _once(one)
            except Exception as error:
                errors[one.name] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            if number:
                seconds[one.name].append(taken)
    for name in errors:
        del seconds[name]
    nodes = len(gs.load(str(files.frozen)))
    return {
        "nodes": nodes,
        "errors": errors,
        "milliseconds": {name: _steps(seconds[name]) for name in seconds},
    }


def _once(contender: Contender) -> Dict[str, float]:
    contender.prepare()
    # What one leaves behind is not for the next to clear away.
    gc.collect()
    return contender.run()


def _steps(rounds: List[Dict[str, float]]) -> Dict[str, Any]:
    """Milliseconds: the median of each step; of the whole also the quartiles and each round."""
    whole = [1e3 * sum(taken.values()) for taken in rounds]
    steps = {step: 1e3 * float(np.median([one[step] for one in rounds])) for step in rounds[0]}
    return {"steps": steps, "whole": quartiles(whole), "rounds": whole}


def alone(files: Files, platform: str, name: str, folder: Path) -> Dict[str, Any]:
    """The peak memory of one contender, and what of it was there before it ran, in megabytes."""
    (one,) = contenders(files, platform, folder / "out.pb", name)
    one.prepare()
    before = peak_megabytes()
    one.run()
    return {"before": before, "peak": peak_megabytes()}


def shell(files: Files, rounds: int, folder: Path) -> Dict[str, Any]:
    """Seconds of wall time of whole commands, in turns."""
    model, out = str(files.frozen), str(folder / "out.pb")
    graphslim = [sys.executable, "-m", "graphslim"]
    prune = ["prune", model, "-o", out, "--no-verify", "--quiet"]
    half = ["--criterion", "l1", "--ratio", "0.5", "--rank", "local", "--multiple-of", "1"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import tensorflow": [sys.executable, "-c", "import tensorflow"],
        "graphslim --version": [*graphslim, "--version"],
        "graphslim inspect": [*graphslim, "inspect", model],
        "graphslim prune --no-verify": [*graphslim, *prune, *half],
    }
    seconds: Dict[str, List[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            taken = _wall(command)
            if number:
                seconds[name].append(taken)
    return {name: {**quartiles(all_), "rounds": all_} for name, all_ in seconds.items()}


def _wall(command: List[str]) -> float:
    import time

    began = time.perf_counter()
    subprocess.run(
        command, check=True, cwd=str(ROOT), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def main() -> None:
    """Does what the words ask for, and tells the result."""
    what, place, platform, name, last = sys.argv[1:]
    files = Files(name, Path(place) / platform / name)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if what == "turns":
            tell(turns(files, platform, int(last), folder))
        elif what == "alone":
            tell(alone(files, platform, last, folder))
        else:
            tell(shell(files, int(last), folder))


if __name__ == "__main__":
    main()

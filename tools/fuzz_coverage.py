"""Lets atheris damage graphs, guided by the lines that they reach; `tools/fuzz.py` runs it.

    python tools/fuzz_coverage.py build/fuzz --seconds 1800 --seed 1

What fails is kept in the folder by the name that libFuzzer gives it; graphslim inspect on it, as
a `.pb`, shows it again.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
with atheris.instrument_imports(include=["graphslim"]):
    import graphslim as gs
    from graphslim.analysis.values import Values
    from graphslim.errors import GraphslimError

import fuzzing  # noqa: E402


def one_input(data: bytes) -> None:
    """Loads and analyses a graph; what it refuses in one line is well."""
    try:
        graph = gs.graphdef.parse(data, "graph.pb", True)
        Values(graph, gs.analyse(graph))
        gs.cost(graph)
        gs.find_blocks(graph)
    except GraphslimError as error:
        if isinstance(error.__cause__, Exception) and "a bug in the pass" in str(error):
            raise


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """The project's own damage: bytes alone would seldom be a graph any more."""
    return fuzzing.damaged_graph(data, random.Random(seed))[:most]


def main() -> None:
    """Hands over to libFuzzer, which ends the process."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    corpus = options.out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for place, data in enumerate(fuzzing.seeds()):
        (corpus / f"seed{place}").write_bytes(data)
    flags = {
        "max_total_time": options.seconds,
        "seed": options.seed % (1 << 31) or 1,
        "timeout": fuzzing.SECONDS,
        "rss_limit_mb": 2 * fuzzing.MEGABYTES,
        "max_len": 1 << 20,
        "artifact_prefix": f"{options.out}/",
        "print_final_stats": 1,
    }
    words = [f"-{key}={value}" for key, value in flags.items()]
    atheris.Setup([sys.argv[0], *words, str(corpus)], one_input, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

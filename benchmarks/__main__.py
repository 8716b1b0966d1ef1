"""Runs all benchmarks and writes RESULTS.md: `make bench`, or `python -m benchmarks`.

Each measurement runs in a process of its own, one at a time. The networks' files are kept in the
folder `build/benchmarks`, and so are the numbers, in `results.json`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

from benchmarks import results
from benchmarks.runtimes import shipped
from benchmarks.scale import LENGTHS
from benchmarks.work import NETWORKS, POSE, ROOT, ask, files_of, read_json, write_json

PARTS = ("compile", "coverage", "latency", "runtimes", "scale")
SETTINGS = ((1, 1), (2, 1), (1, 8), (2, 8))
"""Threads and batches that latency is measured at."""


class Run:
    """One run of the benchmarks.

    Attributes:
        folder: of the networks and the numbers.
        pythons: by platform (`current`, and `first` for TensorFlow 1.15).
        quick: whether only to show that all works.
        numbers: what was measured.
    """

    def __init__(self, folder: Path, pythons: Dict[str, str], quick: bool) -> None:
        self.folder, self.pythons, self.quick = folder, pythons, quick
        self.numbers: Dict[str, Any] = read_json(folder / "results.json") or {}
        self.names = ["MobileNetV2"] if quick else [*NETWORKS, POSE]
        self._began = time.perf_counter()

    def say(self, text: str) -> None:
        """Tells how far the run is, on stderr."""
        print(f"{time.perf_counter() - self._began:6.0f} s  {text}", file=sys.stderr, flush=True)

    def prepare(self) -> None:
        """Makes the networks' files and notes what runs them."""
        for platform, python in self.pythons.items():
            self.say(f"networks, {platform}")
            ask(python, "networks", self.folder, platform, *self.names)
        machines = {
            platform: ask(self.pythons[platform], "machine")[0] for platform in self.pythons
        }
        self.numbers["machine"] = machines
        self.numbers["quick"] = self.quick

    def compile(self) -> None:
        """In-process times, peak memory and whole commands."""
        found: Dict[str, Any] = {}
        rounds = 2 if self.quick else 5
        for platform, python in self.pythons.items():
            for files in self._files(platform):
                self.say(f"compile, {platform}, {files.name}")
                row = ask(python, "compile", "turns", self.folder, platform, files.name, rounds)[0]
                row["memory"] = {
                    name: ask(python, "compile", "alone", self.folder, platform, files.name, name)[
                        0
                    ]
                    for name in row["milliseconds"]
                }
                found[f"{platform}/{files.name}"] = row
            self.say(f"compile, {platform}, from the shell")
            found[f"{platform}/shell"] = ask(
                python, "compile", "shell", self.folder, platform, "MobileNetV2", rounds
            )[0]
        self.numbers["compile"] = found

    def coverage(self) -> None:
        """Shares that are cut."""
        found: Dict[str, Any] = {}
        for files in self._files("current"):
            self.say(f"coverage, {files.name}")
            (found[files.name],) = ask(self.pythons["current"], "coverage", self.folder, files.name)
        self.numbers["coverage"] = found

    def latency(self) -> None:
        """Times of the graphs themselves."""
        found: Dict[str, Any] = {}
        for platform, python in self.pythons.items():
            for files in self._files(platform):
                settings = [one for one in SETTINGS if files.name != POSE or one[1] == 1]
                settings = settings[:1] if self.quick else settings
                batches = sorted({batch for _, batch in settings})
                self.say(f"latency, {platform}, {files.name}")
                try:
                    ask(python, "built", self.folder, platform, files.name, *batches)
                except SystemExit as error:
                    # The others are still worth measuring.
                    self.say(f"left out: {error}")
                    continue
                for threads, batch in settings:
                    seconds = 1 if self.quick else 3
                    row = ask(
                        python,
                        "latency",
                        self.folder,
                        platform,
                        files.name,
                        threads,
                        batch,
                        seconds,
                    )[0]
                    found[f"{platform}/{files.name}/{threads}/{batch}"] = row
        self.numbers["latency"] = found

    def runtimes(self) -> None:
        """Times where networks are shipped."""
        found: Dict[str, Any] = {}
        folder = self.folder / "runtimes"
        for name in ["MobileNetV2"] if self.quick else shipped():
            self.say(f"runtimes, {name}")
            words = ("runtimes", name, "--folder", folder, "--row")
            (found[name],) = ask(self.pythons["current"], *words)
        self.numbers["runtimes"] = found

    def scale(self) -> None:
        """Chains of blocks."""
        sizes = (10, 100) if self.quick else (100, 1_000, 10_000, 100_000)
        found: List[Dict[str, float]] = []
        for blocks in sizes:
            self.say(f"scale, {blocks:,} blocks")
            found.extend(ask(self.pythons["current"], "scale", "--json", "--only", blocks))
        self.numbers["scale"] = found
        shapes: List[Dict[str, Any]] = []
        for shape in LENGTHS:
            for count in (100, 400) if self.quick else LENGTHS[shape][1:]:
                self.say(f"scale, {count:,} {shape}")
                words = ("--json", "--shape", shape, "--only", count)
                shapes.extend(ask(self.pythons["current"], "scale", *words))
        self.numbers["shapes"] = shapes

    def save(self) -> None:
        """Keeps the numbers."""
        write_json(self.folder / "results.json", self.numbers)

    def _files(self, platform: str) -> Any:
        return [one for one in files_of(self.folder, platform) if one.name in self.names]


def main() -> None:
    """Measures what is asked for, and writes the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute: shows that all works")
    parser.add_argument("--first", metavar="PYTHON", help="a Python with TensorFlow 1.15")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; keeps the others")
    parser.add_argument(
        "--output", type=Path, help="by default benchmarks/RESULTS.md; - for stdout"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "benchmarks")
    options = parser.parse_args()
    folder = options.folder / ("quick" if options.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    pythons = {"current": sys.executable}
    if options.first:
        pythons["first"] = os.path.abspath(options.first)
    run = Run(folder, pythons, options.quick)
    run.prepare()
    for part in options.only or PARTS:
        getattr(run, part)()
        run.save()
    page = results.page(run.numbers)
    # A quick run shows that all works; its numbers are not for keeps.
    output = options.output or Path("-" if options.quick else ROOT / "benchmarks" / "RESULTS.md")
    if str(output) == "-":
        print(page)
    else:
        earlier = output.read_text(encoding="utf-8") if output.is_file() else ""
        output.write_text(results.kept(page, earlier), encoding="utf-8")
        run.say(f"written: {output}")


if __name__ == "__main__":
    main()

"""Writes what the commands make of known models, and compares it with what they made before.

    tools/written.py FOLDER [MODEL.pb ...]        writes the files and `digests.json` into FOLDER
    tools/written.py FOLDER --against OLDER       and compares their digests with those of OLDER

For changes that must leave every byte as it was: run it before the first step, on the same
machine and with the same Python, and after the last. Without models it takes those of `fixtures/`
and of `../shared/`, where there is one. Exit status 1 where a file differs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import graphslim as gs
from graphslim.cli import main as command_line

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
SELECTIONS = {
    "dead": "--dead",
    "dead-below": "--dead --dead-below 1e-6 --multiple-of 1",
    "l1-macs": "--criterion l1 --macs 0.5",
    "l2-local": "--criterion l2 --ratio 0.5 --rank local --multiple-of 1",
    "redundancy": "--criterion redundancy --threshold 0.6 --scope blocks",
    "lamp-params": "--criterion lamp --params 0.6 --max-ratio 0.8",
    "bn-scale-removed": "--criterion bn-scale --ratio 0.3 --rounding removed",
    "random": "--criterion random --size 0.7 --seed 3 --min-channels 2",
}
"""By the name of the files: the options that select channels. None of them runs the graph."""


def run(line: str, folder: Path) -> None:
    """Runs a command line and notes in `printed.txt` what it prints; refusals are results too."""
    status: Any = 0
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            command_line(line.split())
        except SystemExit as end:
            status = end.code
    printed_text = re.sub(r"in \d+\.\d+ s", "in ... s", printed.getvalue())
    text = f"$ graphslim {line}\n{printed_text}exit {status}\n\n"
    with open(folder / "printed.txt", "a", encoding="utf-8") as file:
        file.write(text.replace(str(folder), "FOLDER"))


def write_frozen(model: Path, folder: Path) -> None:
    """Everything that can be made of a frozen graph without running it."""
    run(f"inspect {model} --json --why-not", folder)
    for name, options in SELECTIONS.items():
        stem = folder / f"{model.stem}-{name}"
        run(f"plan {model} -o {stem}.json {options}", folder)
        if Path(f"{stem}.json").exists():
            run(f"apply {model} {stem}.json -o {stem}.pb --no-verify", folder)
    stem = folder / f"{model.stem}-l1-macs"
    run(
        f"prune {model} -o {stem}-pruned.pbtxt {SELECTIONS['l1-macs']} --no-verify --optimize",
        folder,
    )
    run(f"optimize {model} -o {folder / model.stem}-optimized.pb --no-verify", folder)


def write_checkpoint(folder: Path) -> None:
    """A stripped checkpoint: the published network, its values read from its frozen graph."""
    from graphslim import runtime

    frozen = gs.load(str(SHARED / "mobilepose" / "inflated.pb"))
    values = {
        node.name: node.attrs["value"].array
        for node in frozen
        if node.op == "Const" and node.attrs["value"].dtype.is_floating
    }
    inputs = folder / "checkpoint"
    inputs.mkdir()
    prefix = inputs / "model"
    shutil.copy(str(SHARED / "mobilepose" / "model.meta"), f"{prefix}.meta")
    runtime.write_checkpoint(str(prefix), values)
    plan = folder / "checkpoint-plan.json"
    run(f"plan {prefix} --outputs output/BiasAdd -o {plan} --scope blocks --dead-below 0", folder)
    run(f"soft-prune {prefix} --outputs output/BiasAdd --plan {plan} -o {folder / 'soft'}", folder)
    run(f"strip {prefix} --outputs output/BiasAdd --plan {plan} -o {folder / 'slim'}", folder)


def digests(folder: Path) -> Dict[str, str]:
    """SHA-256 of every file below a folder, but for what states times and paths."""
    skipped = ("digests.json", "checkpoint")
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in skipped
    }


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--against", type=Path, metavar="OLDER")
    given = parser.parse_args()
    models: List[Path] = given.models or [
        *sorted((ROOT / "fixtures").glob("*.pb")),
        *sorted((SHARED / "mobilepose").glob("*.pb")),
        *sorted((SHARED / "graphs").glob("*.pb")),
    ]
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)
    for model in models:
        start = time.perf_counter()
        write_frozen(model, given.folder)
        print(f"{model.name}: {time.perf_counter() - start:.0f} s")
    if not given.models and (SHARED / "mobilepose" / "model.meta").exists():
        write_checkpoint(given.folder)
    written = digests(given.folder)
    if given.models:
        del written["printed.txt"]  # it holds what was printed of all models
    (given.folder / "digests.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    print(f"{len(written)} files written to {given.folder}")
    if given.against is None:
        return 0
    before = json.loads((given.against / "digests.json").read_text(encoding="utf-8"))
    if given.models:
        before = {name: digest for name, digest in before.items() if name in written}
    differing = sorted(
        name for name in before.keys() | written.keys() if before.get(name) != written.get(name)
    )
    for name in differing:
        print(f"differs: {name}")
    print(f"{len(before) - len(differing)} of {len(before)} files are the same, byte for byte")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

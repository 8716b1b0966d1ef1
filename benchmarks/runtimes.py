"""How fast pruned networks run where they are shipped: TensorFlow, TFLite, ONNX Runtime, OpenVINO.

    python -m benchmarks.runtimes [--folder FOLDER] [NETWORK...]

Each network is pruned to half of its multiply-accumulates (l1, widths for ONNX Runtime), exported
with the original and, where Keras can build it, with the same network built at the pruned widths;
then all that a runtime runs take turns, on one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import graphslim as gs
from benchmarks.built import KINDS, make, path_of
from benchmarks.results import runtimes
from benchmarks.work import POSE, ROOT, SHARED, Files, ask, quartiles, tell
from graphslim.delivery.converter import Converter
from graphslim.delivery.formats import Wish
from graphslim.delivery.run import written
from graphslim.engines import installed, open_runner
from graphslim.measure.bench import take_turns
from graphslim.measure.feeds import random_feeds

KERAS = ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0")
TARGETS: Dict[str, Tuple[str, str, Optional[str]]] = {
    "tf": ("tf", ".pb", None),
    "tflite": ("tflite", ".tflite", None),
    "tflite-int8": ("tflite", ".tflite", "int8"),
    "ort": ("ort", ".onnx", None),
    "openvino": ("openvino", ".onnx", None),
}
"""By column the runtime, the ending of its files, and how they are quantised."""
SECONDS, LEAST, MOST = 6.0, 10, 200
"""How long the networks of one cell take turns, and how often at least and at most."""


def published() -> Dict[str, Path]:
    """The published networks, which nobody builds anew."""
    graphs = sorted((SHARED.parent / "graphs").glob("*.pb"))
    return {POSE: SHARED / "inflated.pb", **{path.stem: path for path in graphs}}


def shapes_of(path: Path) -> Dict[str, List[int]]:
    """By input, the shape that is stated beside a published network."""
    aside = path.with_suffix(".json")
    known = json.loads(aside.read_text()) if aside.is_file() else {"inputs": []}
    return {tensor["name"]: tensor["shape"] for tensor in known["inputs"]}


def shipped() -> List[str]:
    """The networks that are measured."""
    return [*KERAS, *published()]


def halved(graph: gs.Graph) -> gs.Plan:
    """The plan for half of the multiply-accumulates."""
    return gs.plan(graph, criterion="l1", macs=0.5, runtime="ort")


def measure(files: Files) -> Dict[str, Any]:
    """By column, milliseconds of each kind and the ratios round by round."""
    kinds = list(KINDS)
    if files.name in KERAS:
        make(files, [1], halved)
    else:
        kinds.remove("built")
        _make_published(files)
    rows = {}
    with Converter() as converter:
        for name, (runtime, ending, quantize) in TARGETS.items():
            if runtime in installed():
                rows[name] = _turns(files, kinds, runtime, ending, quantize, converter)
    return {"kinds": kinds, "rows": rows}


def _make_published(files: Files) -> None:
    """The original, with a size for each open one, and the pruned network."""
    path = published()[files.name]
    shapes = shapes_of(path)
    graph = gs.load(str(path), input_shapes=shapes or None)
    files.folder.mkdir(parents=True, exist_ok=True)
    gs.save(graph, path_of(files, "original", 1))
    gs.save(gs.apply(graph, halved(graph)), path_of(files, "pruned", 1))
    (files.folder / "shapes.json").write_text(json.dumps(shapes))


def _turns(
    files: Files,
    kinds: List[str],
    runtime: str,
    ending: str,
    quantize: Optional[str],
    converter: Converter,
) -> Dict[str, Any]:
    aside = files.folder / "shapes.json"
    shapes = json.loads(aside.read_text()) if aside.is_file() else None
    paths = []
    for kind in kinds:
        path = path_of(files, kind, 1)
        if ending != ".pb":
            graph = gs.load(str(path), input_shapes=shapes or None)
            path = path.with_name(f"{kind}-{quantize or 'float'}{ending}")
            if not path.is_file():
                written(converter, graph, str(path), Wish(quantize))
        paths.append(path)
    graph = gs.load(str(path_of(files, "original", 1)), input_shapes=shapes or None)
    feeds = random_feeds(graph)
    runners = [open_runner(str(path), runtime, 1, shapes) for path in paths]
    try:
        actions = [runner.prepare(feeds) for runner in runners]
        began = time.perf_counter()
        take_turns(actions, 1, 1)
        rounds = int(min(MOST, max(LEAST, SECONDS * 2 / (time.perf_counter() - began))))
        times = dict(zip(kinds, 1e3 * take_turns(actions, rounds, 3).T))
    finally:
        for runner in runners:
            runner.close()
    row = {"milliseconds": {kind: quartiles(times[kind]) for kind in kinds}, "rounds": rounds}
    row["to original"] = quartiles(times["pruned"] / times["original"])
    if "built" in times:
        row["to built"] = quartiles(times["pruned"] / times["built"])
    row["bytes"] = {kind: path.stat().st_size for kind, path in zip(kinds, paths)}
    row["version"] = runners[0].version
    return row


def main() -> None:
    """Measures each network in a process of its own, and prints the table."""
    parser = argparse.ArgumentParser(description="Times pruned networks in every runtime.")
    parser.add_argument("networks", nargs="*", default=shipped())
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "benchmarks" / "runtimes")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        (name,) = options.networks
        tell(measure(Files(name, options.folder / name)))
        return
    found = {}
    for name in options.networks:
        words = ("runtimes", name, "--folder", options.folder, "--row")
        (found[name],) = ask(sys.executable, *words)
        print(runtimes({name: found[name]}), file=sys.stderr, flush=True)
    print(runtimes(found))


if __name__ == "__main__":
    main()

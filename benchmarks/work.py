"""The folder that the benchmarks share, and how they run and tell: a child process prints JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "mobilepose"
NETWORKS = ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "DenseNet121")
"""Those of `tf.keras.applications` that are measured; TensorFlow 1.15 has three of them."""
POSE = "mobilepose"
MARK = "benchmark: "


class Files(NamedTuple):
    """Where the files of one network lie, of one TensorFlow.

    Attributes:
        name: the network.
        folder: of all its files.
    """

    name: str
    folder: Path

    @property
    def frozen(self) -> Path:
        """The frozen graph, batch 1."""
        return self.folder / "frozen.pb"

    @property
    def thin(self) -> Path:
        """The same nodes with hardly any weights, which tells Python's share from that of bytes."""
        return self.folder / "thin.pb"

    @property
    def converted(self) -> Path:
        """What tf2onnx makes of it."""
        return self.folder / "converted.onnx"

    @property
    def simplified(self) -> Path:
        """What onnxsim's simplifier makes of that."""
        return self.folder / "simplified.onnx"


def files_of(folder: Path, platform: str) -> List[Files]:
    """The networks that are ready in a folder, of a platform (`first` or `current`)."""
    found = [Files(name, folder / platform / name) for name in (*NETWORKS, POSE)]
    return [files for files in found if files.frozen.is_file()]


def load_helper(name: str) -> Any:
    """A module of `tests/`, which has the code that freezes networks."""
    spec = importlib.util.spec_from_file_location(name, str(ROOT / "tests" / f"{name}.py"))
    if spec is None or spec.loader is None:
        raise SystemExit(f"tests/{name}.py: cannot be read")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def tell(result: Any) -> None:
    """Prints a result for the process that started this one; may be called more than once."""
    print(MARK + json.dumps(result), flush=True)


def ask(python: str, module: str, *words: object, quiet: bool = True) -> List[Any]:
    """Runs a module of the benchmarks in a process of its own, and gives what it tells.

    Raises:
        SystemExit: it failed.
    """
    command = [python, "-m", f"benchmarks.{module}", *[str(word) for word in words]]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command,
        cwd=str(ROOT),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: failed\n{done.stderr or done.stdout}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    return [json.loads(line[len(MARK) :]) for line in lines]


def peak_megabytes() -> float:
    """The most memory that this process has had, in megabytes (2**20 bytes)."""
    most = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


class Stopwatch:
    """Collects the seconds of named steps, of processor time: other programs do not count.

    Attributes:
        seconds: of each step, in order.
    """

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    def __call__(self, step: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Runs and times a step; gives what it gives."""
        began = time.process_time()
        result = call(*args, **options)
        self.seconds[step] = time.process_time() - began
        return result


def quartiles(numbers: Sequence[float]) -> Dict[str, float]:
    """The median and the quartiles of some numbers."""
    from graphslim.measure.bench import spread

    return dict(spread(numbers)._asdict())


def read_json(path: Path) -> Optional[Any]:
    """What a file holds; None where there is no such file."""
    return json.loads(path.read_text()) if path.is_file() else None


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes a file."""
    path.write_text(json.dumps(tree, indent=1) + "\n")

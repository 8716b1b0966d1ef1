"""The machine and the versions that a benchmark ran with: `python -m benchmarks.machine`."""

from __future__ import annotations

import os
import platform
from typing import Any, Dict

from benchmarks.work import tell

PACKAGES = (
    *("tf-graphslim", "tensorflow", "tensorflow-cpu", "numpy", "protobuf", "networkx"),
    *("onnx", "onnxsim", "tf2onnx", "torch", "torch-pruning"),
)


def facts() -> Dict[str, Any]:
    """The processor, cores, memory, system, Python, and the packages' versions."""
    from graphslim.measure.bench import cpu_name

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "gigabytes": round(pages / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "packages": {name: found for name in PACKAGES for found in [version(name)] if found},
    }


def version(name: str) -> str:
    """The version of an installed package; empty where it is not installed."""
    try:
        from importlib.metadata import version as ask
    except ImportError:  # Python 3.7
        from importlib_metadata import version as ask
    try:
        return str(ask(name))
    except Exception:
        return ""


if __name__ == "__main__":
    tell(facts())

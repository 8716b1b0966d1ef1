"""Graphs, folders of images and examples that the tests of sample inputs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from graphslim.ir import Graph
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.testing import from_text


def fed(shape: str = "<?,8,6,3>", dtype: str = "float32", rest: str = "") -> Graph:
    rest = rest or "y = Identity(x)"
    return from_text(f"x = Placeholder() dtype={dtype} shape={shape}\n{rest}")


def all_of(graph: Graph, data: Data, batch: int = 1) -> Dict[str, np.ndarray]:
    """All examples, joined along the first axis."""
    runs = [feeds for feeds, _ in Examples(graph, Samples(data, batch=batch))]
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


def images(folder: Path, count: int, size: Any = (12, 16)) -> Path:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = np.full((*size, 3), [number, 200, 255], np.uint8)
        image.fromarray(pixels).save(str(folder / f"{number:03d}.png"))
    return folder

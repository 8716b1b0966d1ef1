"""Outputs that are pictures are shown side by side, for images that a repair kept aside."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any, Optional, Tuple

import numpy as np
import pytest
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim.measure.looks import looks_at, picture_of
from graphslim.measure.samples import Examples, Samples
from graphslim.measure.shares import split
from graphslim.runtime import Session

MODEL = """
    x = input ?,12,10,3
    w = f32[3,3,3,8]{random 1}
    conv = Conv2D(x, w)
    relu = Relu(conv)
    v = f32[1,1,8,4]{random 2}
    y = Conv2D(relu, v)
"""


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [
        ((12, 10), -1, (12, 10)),
        ((12, 10, 1), -1, (12, 10)),
        ((1, 12, 10), -3, (12, 10)),
        ((12, 10, 3), -1, (12, 10, 3)),
        ((3, 12, 10), -3, (12, 10, 3)),
        ((12, 10, 17), -1, (12, 10)),
        ((17, 12, 10), -3, (12, 10)),
        ((7, 12), -1, None),
        ((40,), -1, None),
        ((), -1, None),
        ((9, 9, 9, 9), -1, None),
    ],
)
def test_what_is_a_picture(
    shape: Tuple[int, ...], axis: int, expected: Optional[Tuple[int, ...]]
) -> None:
    picture = picture_of(np.random.RandomState(0).normal(size=shape), axis)
    assert (None if picture is None else picture.shape) == expected


def test_text_is_no_picture() -> None:
    assert picture_of(np.full((12, 12), "text")) is None


def answers(graph: gs.Graph, image: np.ndarray) -> np.ndarray:
    with Session(graph) as session:
        return np.asarray(session.run({"x": image[None]})[0][0].max(-1))


@pytest.mark.tf
def test_looks_are_on_the_scale_of_the_original() -> None:
    graph = tiny(MODEL)
    slim = gs.apply(graph, gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1))
    inputs = np.random.RandomState(3).uniform(-1, 1, (3, 12, 10, 3)).astype(np.float32)
    examples = Examples(graph, Samples({"x": inputs}, 2))
    versions = {"original": graph, "pruned": slim}
    (look,) = looks_at(versions, examples)
    assert look.output == "y" and look.heads == ("input", "original", "pruned")
    assert len(look.rows) == 3
    for row, image in zip(look.rows, inputs):
        whole, less = [answers(each, image) for each in (graph, slim)]
        low, high = whole.min(), whole.max()
        np.testing.assert_allclose(row[1], (whole - low) / (high - low), atol=1e-5)
        np.testing.assert_allclose(row[2], np.clip((less - low) / (high - low), 0, 1), atol=1e-5)
        assert row[0].shape == (12, 10, 3) and row[0].min() == 0 and row[0].max() == 1


@pytest.mark.tf
def test_the_report_of_a_repair_shows_four_images_of_the_gate(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    image = pytest.importorskip("matplotlib.image", reason="the extra `report` is not installed")
    run = Run(tmp_path, capsys, monkeypatch)
    gs.save(tiny(MODEL), "model.pb")
    inputs = np.random.RandomState(3).uniform(-1, 1, (48, 12, 10, 3)).astype(np.float32)
    np.save("data.npy", inputs)
    run(
        "prune model.pb -o slim.pb --criterion l1 --ratio 0.4 --multiple-of 1 --data data.npy "
        "--repair --stage least-squares --report r.html"
    )
    page = Path("r.html").read_text()
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page)
    heads = ("input", "original", "as removed", "repaired")
    assert [alt for _, alt in found] == [
        f"{head} of image {number}" for number in (1, 2, 3, 4) for head in heads
    ]
    first = inputs[split(48, 0)[2][0]]
    shown = image.imread(io.BytesIO(base64.b64decode(found[0][0])), format="png")[..., :3]
    expected = (first - first.min()) / (first.max() - first.min())
    np.testing.assert_allclose(shown, expected, atol=1 / 254)

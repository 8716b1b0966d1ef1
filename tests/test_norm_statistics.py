"""Inputs that are not of the scale of training, told by what the first batch norms remember."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from command import Run
from pictured import images
from tiny import tiny

import graphslim as gs
from graphslim.measure.norm_statistics import cautions_about, first_norms
from graphslim.measure.samples import Data, Examples, Samples

pytestmark = pytest.mark.tf
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
PLAIN = """
    x = input ?,8,8,3
    w = f32[1,1,3,4]{1 0 0 1 0 1 0 1 0 0 1 1}
    conv = Conv2D(x, w)
"""
FUSED = """
    scale = f32[4]{1 2 3 4}
    offset = f32[4]{0 1 0 1}
    mean = f32[4]{0 0.01 -0.01 0}
    variance = f32[4]{0.33 0.33 0.33 1}
    norm = FusedBatchNormV3(conv, scale, offset, mean, variance) is_training=false U=float32
    y = Relu(norm)
"""
SPELLED_OUT = """
    variance = f32[4]{0.33 0.33 0.33 1}
    epsilon = f32[]{0.001}
    mean = f32[4]{0 0.01 -0.01 0}
    scale = f32[4]{1 2 3 4}
    offset = f32[4]{0 1 0 1}
    summed = AddV2(variance, epsilon)
    root = Rsqrt(summed)
    slope = Mul(root, scale)
    times = Mul(conv, slope)
    moved = Mul(mean, slope)
    shift = Sub(offset, moved)
    norm = AddV2(times, shift)
    y = Relu(norm)
"""
WITHOUT_SCALE = SPELLED_OUT.replace("slope = Mul(root, scale)\n", "").replace("slope", "root")
SPELLINGS = {"fused": FUSED, "spelled out": SPELLED_OUT, "without a scale": WITHOUT_SCALE}


def pixels(low: float, high: float, count: int = 32) -> Dict[str, np.ndarray]:
    rng = np.random.RandomState(0)
    return {"x": rng.uniform(low, high, (count, 8, 8, 3)).astype(np.float32)}


def test_images_for_an_input_without_a_batch_are_looked_at(tmp_path: Path) -> None:
    single = """
        image = input 12,16,3
        first = i32[]{0}
        x = ExpandDims(image, first)
        w = f32[1,1,3,4]{1 0 0 1 0 1 0 1 0 0 1 1}
        conv = Conv2D(x, w)
    """
    graph = tiny(single + FUSED)
    examples = Examples(graph, Samples(str(images(tmp_path / "images", 5))))
    assert (examples.count, examples.at_once, examples.units) == (5, 1, 5)
    assert "the inputs are not of the scale" in str(cautions_about(graph, examples)[0])


def said(graph: gs.Graph, data: Data) -> List[str]:
    return [str(caution) for caution in cautions_about(graph, Examples(graph, Samples(data, 8)))]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_scale_of_training_is_known(spelling: str) -> None:
    graph = tiny(PLAIN + SPELLINGS[spelling])
    (norm,) = first_norms(graph)
    np.testing.assert_allclose(norm.mean, [0, 0.01, -0.01, 0], rtol=1e-5)
    np.testing.assert_allclose(norm.deviation, np.sqrt([0.33, 0.33, 0.33, 1]), rtol=0.01)
    assert not said(graph, pixels(-1, 1))
    (text,) = said(graph, pixels(0, 255))
    assert "varies 129 times as much" in text and "scaled from 0..255 to -1..1 they would" in text


def test_half_the_range_is_noticed_where_the_whole_fits_better() -> None:
    graph = tiny(PLAIN + FUSED)
    (text,) = said(graph, pixels(0, 1))
    assert "scaled from 0..1 to -1..1 they would fit" in text
    assert not said(graph, pixels(0, 1, count=4)), "so few may be dark ones"


def test_what_no_usual_range_explains_is_of_another_kind() -> None:
    (text,) = said(tiny(PLAIN + FUSED), pixels(-40, 40))
    assert "scale them as in training; if they are, give inputs of its kind" in text


def test_a_layout_that_a_cpu_cannot_run_is_turned() -> None:
    nchw = (
        (PLAIN + FUSED)
        .replace("?,8,8,3", "?,3,8,8")
        .replace("(x, w)", '(x, w) data_format="NCHW"')
        .replace("is_training", 'data_format="NCHW" is_training')
    )
    turned = {name: array.transpose(0, 3, 1, 2) for name, array in pixels(-1, 1).items()}
    assert not said(tiny(nchw), turned)
    assert said(tiny(nchw), {"x": 100 * turned["x"]})


def test_nothing_is_said_where_nothing_is_known() -> None:
    untrained = FUSED.replace("{0 0.01 -0.01 0}", "{0}").replace("{0.33 0.33 0.33 1}", "{1}")
    training = FUSED.replace("is_training=false", "is_training=true")
    for text in (PLAIN, PLAIN + untrained, PLAIN + training):
        assert not said(tiny(text), pixels(0, 255))
    assert not said(tiny(PLAIN + FUSED), None), "random inputs are made for the graph"


def test_only_norms_that_no_other_stands_before_are_asked() -> None:
    second = FUSED.replace("y =", "relu =") + "\n  w2 = f32[1,1,4,4]{random 1}\n"
    second += "  conv2 = Conv2D(relu, w2)\n"
    second += (
        "  y = FusedBatchNormV3(conv2, scale, offset, mean, variance) is_training=false U=float32\n"
    )
    assert [norm.node for norm in first_norms(tiny(PLAIN + second))] == ["norm"]


@pytest.mark.parametrize(
    ("factor", "offset", "better"),
    [(1, 0, ""), (255, 0, "from 0..255 to 0..1"), (2, -1, "from -1..1 to 0..1")],
)
def test_a_network_that_was_trained(factor: float, offset: float, better: str) -> None:
    graph = gs.load(str(FIXTURES / "digits_mobilenet_v2_se.pb"))
    digits = np.load(str(FIXTURES / "digits_sample.npz"))["image"]
    texts = said(graph, {"image": (factor * digits + offset).astype(np.float32)})
    assert len(texts) == bool(better) and all(better in text for text in texts)


def test_commands_say_so_before_they_begin(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    run = Run(tmp_path, capsys, monkeypatch)
    gs.save(tiny(PLAIN + FUSED), "model.pb")
    np.save("data.npy", pixels(0, 255)["x"])
    assert "varies 129 times as much" in run("verify model.pb model.pb --data data.npy").err
    told = run("prune model.pb -o slim.pb --data data.npy --no-verify")
    assert "varies 129 times" not in told.err, "nothing is run"


def test_images_name_the_option(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    run = Run(tmp_path, capsys, monkeypatch)
    gs.save(tiny(PLAIN + FUSED), "model.pb")
    Path("images").mkdir()
    for number, array in enumerate(pixels(0, 256, 16)["x"].astype(np.uint8)):
        image.fromarray(array).save(f"images/{number}.png")
    told = run("verify model.pb model.pb --data images --image-range 0,255")
    assert "(with --image-range -1,1 they would fit)" in told.err
    assert "caution" not in run("verify model.pb model.pb --data images").err


def test_images_of_another_size_are_told(tmp_path: Path) -> None:
    graph = tiny(PLAIN + FUSED)

    def cautions(name: str, size: Any, **options: Any) -> List[str]:
        folder = str(images(tmp_path / name, 2, size))
        return list(Examples(graph, Samples(gs.Images(folder, **options))).about.cautions)

    assert not cautions("right", (10, 8))
    (small,) = cautions("small", (4, 4))
    assert "images of 4x4 (their median) are enlarged to 8x8" in small
    (wide,) = cautions("wide", (8, 32))
    assert "images of 32x8 (their median) are stretched to 8x8" in wide and "--crop" in wide
    assert not cautions("cropped", (8, 32), crop=True)

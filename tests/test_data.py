"""Sample inputs: arrays from files, inputs of the training phase, encoded files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from pictured import all_of, fed, images
from tiny import tiny

import graphslim as gs
from graphslim.analysis.cautions import random_node
from graphslim.errors import GraphslimError
from graphslim.measure.feeds import cut_behind
from graphslim.measure.samples import Examples, Samples
from graphslim.runtime import Session
from graphslim.testing import from_text

# ------------------------------------------------------------------- arrays


def test_npz_by_name_and_by_shape(tmp_path: Path) -> None:
    data = np.arange(2 * 8 * 6 * 3, dtype=np.float64).reshape(2, 8, 6, 3)
    np.savez(str(tmp_path / "named.npz"), x=data, labels=np.zeros(2))
    np.savez(str(tmp_path / "other.npz"), images=data, labels=np.zeros(2))
    np.save(str(tmp_path / "one.npy"), data)
    for name in ("named.npz", "other.npz", "one.npy"):
        found = all_of(fed(), str(tmp_path / name))
        assert list(found) == ["x"], name
        assert found["x"].dtype == np.float32 and (found["x"] == data).all(), name


def test_two_inputs_need_their_names(tmp_path: Path) -> None:
    graph = from_text(
        "a = Placeholder() dtype=float32 shape=<?,2>\n"
        "b = Placeholder() dtype=int32 shape=<?>\nc = Add(a, b)"
    )
    np.savez(str(tmp_path / "two.npz"), a=np.zeros((3, 2)), b=np.arange(3))
    found = all_of(graph, str(tmp_path / "two.npz"))
    assert (found["a"].dtype, found["b"].dtype) == (np.float32, np.int32)
    assert found["b"].tolist() == [0, 1, 2]
    np.savez(str(tmp_path / "one.npz"), a=np.zeros((3, 2)))
    with pytest.raises(GraphslimError, match="no array for the input 'b' .it has: a"):
        Examples(graph, Samples(str(tmp_path / "one.npz")))


TWO = """
    x = input ?,4
    z = input {},4
    y = Relu(x)
    other = Relu(z)
"""


def test_two_inputs_need_as_many_examples() -> None:
    data = {"x": np.zeros((40, 4)), "z": np.zeros((60, 4))}
    for batch in (1, 32):
        with pytest.raises(GraphslimError, match="its array holds (40|60) examples"):
            Examples(tiny(TWO.format("?")), Samples(data, batch=batch))
    with pytest.raises(GraphslimError, match="batch: must be 1 or more"):
        Examples(tiny(TWO.format("?")), Samples(batch=0))


@pytest.mark.parametrize("rows", [1, 100])
def test_an_input_of_a_fixed_size_beside_one_of_any(rows: int) -> None:
    graph = tiny(TWO.format(rows))
    runs = list(Examples(graph, Samples(batch=4)))
    assert [(count, len(feeds["x"]), len(feeds["z"])) for feeds, count in runs] == [
        (4, 4, rows),
        (4, 4, rows),
    ]
    x = np.arange(40, dtype=np.float32).reshape(10, 4)
    table = Examples(graph, Samples({"x": x, "z": np.zeros((rows, 4))}, batch=8))
    assert (table.count, table.at_once, table.units) == (10, 1, 10)
    many = Examples(graph, Samples({"x": x, "z": np.repeat(x, rows, axis=0)}))
    for examples in (table, many):
        part = examples.part(np.array([7, 2]))
        assert np.concatenate([feeds["x"] for feeds, _ in part]).tolist() == x[[7, 2]].tolist()
    assert [feeds["z"].tolist() for feeds, _ in part] == [[x[at].tolist()] * rows for at in (7, 2)]


def broken_zip(path: Path) -> None:
    np.savez(str(path), x=np.zeros((1, 8, 6, 3)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: path.write_bytes(b""), "not an array of numbers"),
        (lambda path: path.write_bytes(b"hello"), "not an array of numbers"),
        (broken_zip, "not an array of numbers"),
        (lambda path: None, "no such file"),
        (lambda path: np.savez(str(path)), "holds no array"),
        (lambda path: np.savez(str(path), x=np.zeros((1, 2))), "'x' has the shape 1,2"),
        (lambda path: np.savez(str(path), y=np.zeros((1, 2))), "'x' has the shape 1,2"),
        (
            lambda path: np.savez(str(path), y=np.zeros(1), z=np.zeros(2)),
            "no array for the input 'x' .it has: y, z",
        ),
        (
            lambda path: np.savez(str(path), x=np.full((1, 8, 6, 3), "text")),
            "'x' holds <U4 .the input takes float32",
        ),
        (
            lambda path: np.savez(str(path), x=np.full((1, 8, 6, 3), None)),
            "not an array of numbers",
        ),
    ],
)
def test_bad_files_are_told(tmp_path: Path, write: Any, told: str) -> None:
    path = tmp_path / "data.npz"
    write(path)
    with pytest.raises(GraphslimError, match=told) as caught:
        Examples(fed(), Samples(str(path)))
    assert str(path) in str(caught.value)


def test_an_array_is_for_the_only_input() -> None:
    examples = Examples(fed(), Samples(np.ones((3, 8, 6, 3), np.float32)))
    assert examples.about.lines()[0].startswith("data: 3 examples from arrays")
    with pytest.raises(GraphslimError, match="data: a list is no sample inputs"):
        Examples(fed(), Samples([np.ones((1, 8, 6, 3))]))  # type: ignore[arg-type]


def test_options_of_images_are_refused_for_arrays(tmp_path: Path) -> None:
    np.save(str(tmp_path / "one.npy"), np.zeros((1, 8, 6, 3)))
    with pytest.raises(GraphslimError, match="--image-range: is for images, and these are arrays"):
        Examples(fed(), Samples(gs.Images(str(tmp_path / "one.npy"), image_range=(0, 1))))


# ------------------------------------------------------------------- inputs of the training phase

PHASE = """
    x = input ?,2
    phase = Placeholder() dtype=bool shape=<>
    same = Identity(phase) T=bool
    y = Relu(x)
"""


def test_a_training_phase_is_fed_with_false_and_said(tmp_path: Path) -> None:
    graph = tiny(PHASE)
    np.save(str(tmp_path / "x.npy"), np.ones((3, 2)))
    for data in (None, {"x": np.ones((3, 2))}, str(tmp_path / "x.npy")):
        examples = Examples(graph, Samples(data))
        assert all(feeds["phase"] is not None and not feeds["phase"] for feeds, _ in examples)
        assert "input phase is fed with False (inference)" in examples.about.lines()
    given = Examples(graph, Samples({"x": np.ones((3, 2)), "phase": np.array(True)}))
    assert all(feeds["phase"] for feeds, _ in given) and not given.about.switches


def test_booleans_for_each_example_grow_with_the_run() -> None:
    graph = tiny(PHASE.replace("bool shape=<>", "bool shape=<?,4>"))
    runs = [feeds for feeds, _ in Examples(graph, Samples({"x": np.ones((3, 2))}, batch=2))]
    assert [run["phase"].shape for run in runs] == [(2, 4), (1, 4)]


@pytest.mark.parametrize(
    ("dropout", "expected"),
    [
        ("sum = Add(p, noise)\nmask = Floor(sum)\npart = RealDiv(x, p)\ny = Mul(part, mask)", 1.0),
        ("mask = GreaterEqual(noise, p)\nfloat = Cast(mask) SrcT=bool\ny = Mul(x, float)", 0.0),
        (
            "one = f32[]{1}\nrate = Sub(one, p)\nkeep = Sub(one, rate)\n"
            "scale = RealDiv(one, keep)\npart = Mul(x, scale)\nmask = GreaterEqual(noise, rate)\n"
            "float = Cast(mask) SrcT=bool DstT=float32\ny = Mul(part, float)",
            1.0,
        ),
        ("mask = Less(noise, p)\nfloat = Cast(mask) SrcT=bool\ny = Mul(x, float)", 1.0),
        ("y = Mul(x, p)", None),
    ],
)
def test_dropout_lets_everything_through(dropout: str, expected: Optional[float]) -> None:
    graph = tiny(
        "x = input ?,2\np = Placeholder() dtype=float32 shape=<>\nsize = i32[2]{1 2}\n"
        "drawn = RandomUniform(size) T=int32 dtype=float32\n"
        "span = f32[]{1}\nleast = f32[]{0}\nwide = Mul(drawn, span)\nnoise = Add(wide, least)\n"
        + dropout
    )
    data = {"x": np.ones((3, 2))}
    if expected is None:
        with pytest.raises(GraphslimError, match="no array for the input 'p'"):
            Examples(graph, Samples(data))
        return
    examples = Examples(graph, Samples(data))
    assert examples.about.switches == (("p", expected),)
    assert all(feeds["p"] == np.float32(expected) for feeds, _ in examples)


def test_dropout_that_is_switched_off_makes_no_output_random() -> None:
    text = (
        "x = input ?,2\np = Placeholder() dtype=float32 shape=<>\nsize = i32[2]{1 2}\n"
        "noise = RandomUniform(size) T=int32 dtype=float32\n"
        "mask = Less(noise, p)\nfloat = Cast(mask) SrcT=bool DstT=float32\ny = Mul(x, float)"
    )
    assert random_node(tiny(text)) is None
    assert random_node(tiny(text + "\nz = Add(x, noise)")) == "noise"
    assert random_node(tiny(text.replace("Less", "Add").replace("mask) SrcT=bool", "mask)"))) == (
        "noise"
    )


# ------------------------------------------------------------------- inputs of encoded bytes

JPEG = """
    bytes = Placeholder() dtype=string shape=<>
    pixels = DecodeJpeg(bytes) channels=3
    float = Cast(pixels) SrcT=uint8 DstT=float32
    axis = i32[]{0}
    x = ExpandDims(float, axis) Tdim=int32
    size = i32[2]{8 8}
    small = ResizeBilinear(x, size)
    w = f32[3,3,3,4]{random 1}
    y = Conv2D(small, w)
"""


def test_where_to_start_behind_a_decoder_is_told() -> None:
    graph = tiny(JPEG)
    with pytest.raises(GraphslimError, match="cannot make up string data .*inputs (.*)") as told:
        Examples(graph, Samples())
    name = str(told.value).rstrip(")").rsplit(" ", 1)[1]
    graph.inputs = [name]
    ((feeds, _), *_) = list(Examples(graph, Samples()))
    assert feeds[name].dtype == np.float32 and feeds[name].shape[3] == 3


def test_a_cut_that_leaves_something_undecoded_is_not_offered() -> None:
    graph = tiny(
        "bytes = Placeholder() dtype=string shape=<>\n"
        "wav = DecodeWav(bytes) desired_channels=1 desired_samples=100\n"
        "power = AudioSpectrogram(wav) magnitude_squared=true stride=10 window_size=10\n"
        "x = Mfcc(power, wav:1)\nto = i32[2]{1 20}\nflat = Reshape(x, to)\n"
        "w = f32[20,4]{random 1}\ny = MatMul(flat, w)"
    )
    assert cut_behind(graph, "bytes") == "x"


@pytest.mark.tf
def test_files_are_fed_to_a_graph_that_decodes_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    images(tmp_path, 2)
    examples = Examples(tiny(JPEG), Samples(str(tmp_path)))
    assert examples.count == 2
    with Session(tiny(JPEG)) as session:
        shapes = [session.run(feeds, ["pixels", "y"])[0].shape for feeds, _ in examples]
    assert shapes == [(12, 16, 3)] * 2
    assert "2 files from" in examples.about.lines()[0]


def test_a_size_given_for_an_input_inside_the_graph_holds() -> None:
    graph = tiny("a = input ?,4\nto = Placeholder() dtype=int32 shape=<2>\nx = Reshape(a, to)")
    graph.inputs, graph.input_shapes = ["x"], {"x": (None, 7)}
    assert gs.analyse(graph).fact(gs.Port("x")).shape == (None, 7)

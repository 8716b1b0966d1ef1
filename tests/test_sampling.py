"""Which tensors and which inputs are looked at where channels are scored by sample inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest
from sampled import SMALL, inputs, measured
from tiny import groups, tiny

import graphslim as gs
from graphslim.errors import GraphslimError
from graphslim.measure.places import Place, laid_out, places_of
from graphslim.measure.samples import Examples, Samples


def places(graph: gs.Graph, group: str) -> List[Tuple[str, int]]:
    one = groups(graph)[group]
    found = places_of(gs.analyse(graph), [one], graph)[group]
    return [(str(place.port), place.axis) for place in found]


# ------------------------------------------------------------------- places


def test_a_group_is_seen_where_it_is_read() -> None:
    assert places(tiny(SMALL), "conv") == [("relu", 3)]


def test_a_tensor_that_several_ops_read_counts_once() -> None:
    graph = tiny(SMALL + "same = Identity(relu)\nu = f32[1,1,4,2]{random 3}\nz = Conv2D(same, u)")
    assert places(graph, "conv") == [("relu", 3)]


def test_every_tensor_that_is_read_counts() -> None:
    graph = tiny(SMALL + "wave = Tanh(conv)\nu = f32[1,1,4,2]{random 3}\nz = Conv2D(wave, u)")
    assert sorted(places(graph, "conv")) == [("relu", 3), ("wave", 3)]


def test_a_group_that_nothing_reads_is_seen_where_it_is_produced() -> None:
    graph = tiny(SMALL + "u = f32[1,1,2,6]{random 3}\nloose = Conv2D(x, u)")
    graph.outputs = [gs.Port("y")]
    assert places(graph, "loose") == [("loose", 3)]


def test_parts_of_one_tensor_belong_to_their_groups() -> None:
    graph = tiny(
        SMALL.replace("y = Conv2D(relu, v)", "")
        + """
        u = f32[1,1,2,3]{random 3}
        other = Conv2D(x, u)
        axis = i32[]{3}
        both = ConcatV2(relu, other, axis)
        t = f32[1,1,7,2]{random 4}
        z = Conv2D(both, t)
        """
    )
    wanted = [groups(graph)[name] for name in ("conv", "other")]
    found = places_of(gs.analyse(graph), wanted, graph)
    (first,), (second,) = found["conv"], found["other"]
    assert first.port == second.port == gs.Port("both")
    assert first.positions.tolist() == [0, 1, 2, 3] and second.positions.tolist() == [4, 5, 6]
    assert second.channels.tolist() == [0, 1, 2]


@pytest.mark.tf
def test_positions_behind_a_flatten_belong_to_one_channel() -> None:
    flat = SMALL.replace("y = Conv2D(relu, v)", "") + (
        "to = i32[2]{-1 36}\nrow = Reshape(relu, to)\nt = f32[36,2]{random 4}\nz = MatMul(row, t)"
    )
    x = inputs()
    (plain,) = measured(tiny(SMALL), "apoz", data={"x": x})
    (found,) = measured(tiny(flat), "apoz", data={"x": x})
    np.testing.assert_allclose(found, plain, rtol=1e-6)


def test_any_axis_becomes_the_last() -> None:
    array = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    ((which, block),) = laid_out(array, Place(gs.Port("x"), 1, np.arange(3), np.arange(3)), 2)
    assert which.tolist() == [0, 1, 2]
    assert (block == np.transpose(array, (0, 2, 1))).all()


def test_channels_with_unequally_many_positions_stand_apart() -> None:
    array = np.arange(8.0).reshape(2, 4)
    place = Place(gs.Port("x"), 1, np.array([0, 1, 2, 3]), np.array([1, 0, 1, 2]))
    (single, ones), (double, twos) = laid_out(array, place, 2)
    assert single.tolist() == [0, 2] and ones.tolist() == [[[1, 3]], [[5, 7]]]
    assert double.tolist() == [1] and twos.tolist() == [[[0], [2]], [[4], [6]]]


def test_what_does_not_go_by_examples_counts_as_one() -> None:
    place = Place(gs.Port("x"), 0, np.arange(4), np.arange(4))
    ((_, block),) = laid_out(np.arange(8.0).reshape(4, 2), place, 2)
    assert block.shape == (1, 2, 4)


# ------------------------------------------------------------------- the data


def test_data_of_a_wrong_shape_are_told(tmp_path: Path) -> None:
    np.save(str(tmp_path / "wrong.npy"), inputs(4, 5, 3, 2))
    for data in ({"x": inputs(4, 5, 3, 2)}, str(tmp_path / "wrong.npy")):
        with pytest.raises(GraphslimError, match=r"has the shape 4,5,3,2 .*takes \?,3,3,2"):
            Examples(tiny(SMALL), Samples(data))
    with pytest.raises(GraphslimError, match="has no array for the input 'x'"):
        Examples(tiny(SMALL), Samples({}))
    with pytest.raises(GraphslimError, match="no such file"):
        Examples(tiny(SMALL), Samples(str(tmp_path / "none.npz")))


def test_inputs_with_different_numbers_of_examples_are_told() -> None:
    graph = tiny("x = input ?,2\nz = input ?,2\ny = Add(x, z)")
    data: Dict[str, np.ndarray] = {"x": inputs(4, 2), "z": inputs(3, 2)}
    with pytest.raises(GraphslimError, match="input z: its array holds 3 examples, that of 'x' 4"):
        Examples(graph, Samples(data))


def test_an_input_that_stays_the_same_is_fed_every_time() -> None:
    graph = tiny("x = input ?,2\nz = Placeholder() dtype=float32 shape=<>\ny = Mul(x, z)")
    data = {"x": inputs(5, 2), "z": np.float32(3)}
    runs = list(Examples(graph, Samples(data, batch=2)))
    assert [count for _, count in runs] == [2, 2, 1]
    assert all(feeds["z"] == 3 for feeds, _ in runs)
    assert (np.concatenate([feeds["x"] for feeds, _ in runs]) == data["x"]).all()


def test_more_examples_than_fit_at_once_are_for_several_runs() -> None:
    graph = tiny(SMALL.replace("?,3,3,2", "2,3,3,2"))
    data = {"x": inputs(7)}
    examples = Examples(graph, Samples(data))
    assert (examples.runs, examples.count) == (3, 6)
    fed = np.concatenate([feeds["x"] for feeds, _ in examples])
    assert (fed == data["x"][:6]).all()
    assert examples.about.cautions == (
        "the last 1 of 7 examples are left out: the graph takes 2 at once",
    )
    with pytest.raises(GraphslimError, match="has the shape 1,3,3,2 .*takes 2,3,3,2"):
        Examples(graph, Samples({"x": inputs(1)}))

"""Channels and groups: what is tied, what is pinned and why, and where each group is bound."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Tuple

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import groups, pins, tiny

import graphslim as gs
from graphslim.channels import joints
from graphslim.channels.facts import Fact, fits, per_channel
from graphslim.channels.groups import Removal, copies_needed
from graphslim.channels.joints import connected
from graphslim.channels.pieces import Ranges
from graphslim.channels.rules import CHANNEL_RULES
from graphslim.channels.visit import OpVisit
from graphslim.errors import AnalysisError

X = "x = input 1,8,8,4\n"


def conv(name: str, source: str, inside: int, out: int, more: str = "") -> str:
    return (
        f"{name}/w = f32[1,1,{inside},{out}]{{random 1}}\n"
        f"{name} = Conv2D({source}, {name}/w){more}\n"
    )


def places(graph: gs.Graph, name: str) -> Dict[Tuple[str, int], str]:
    """Where a group is bound: (constant, axis) to role."""
    channels = gs.analyse(graph)
    return {(one.param, one.axis): one.role for one in channels.bindings(groups(graph)[name])}


def widths(graph: gs.Graph) -> Dict[str, int]:
    """The sizes of the prunable groups."""
    return {name: len(group) for name, group in groups(graph).items() if group.prunable}


def test_open_sizes_count_as_one_where_a_limit_is_asked_for() -> None:
    assert fits(6, 2, None, 3) and not fits(5, 2, None, 3) and fits(1, None, None)


@pytest.mark.parametrize(
    ("value", "axis", "known"),
    [
        (np.full((1, 1, 1, 2), 5.0), 3, [5, 5]),
        (np.full((1, 1, 1, 1), 5.0), 3, [5, 5]),
        (np.full((1, 2, 1, 1), 5.0), 3, None),  # two along another axis, whatever they are
        (np.full((1, 1, 1, 3), 5.0), 3, None),
        (None, 3, None),
    ],
)
def test_values_of_channels_do_not_vary_elsewhere(value: Any, axis: int, known: Any) -> None:
    found = per_channel(value, axis, 2)
    assert np.isnan(found).all() if known is None else found.tolist() == known


# ------------------------------------------------------------------ architectures


def test_plain_chain() -> None:
    graph = tiny(X + conv("a", "x", 4, 6) + conv("b", "a", 6, 5) + conv("c", "b", 5, 3))
    assert widths(graph) == {"a": 6, "b": 5}
    assert places(graph, "a") == {("a/w", 3): "producer", ("b/w", 2): "consumer"}
    assert pins(graph, "c") == "it is a graph output @ c"


def test_inverted_residual_block_with_se() -> None:
    text = X + conv("e", "x", 4, 12) + "d/w = f32[3,3,12,1]{1}\nd = DepthwiseConv2dNative(e, d/w)\n"
    text += (
        "m = i32[2]{1 2}\np = Mean(d, m) Tidx=int32\n"
        + conv("s", "p", 12, 3)
        + conv("g", "s", 3, 12)
    )
    text += "h = Sigmoid(g)\ny = Mul(d, h)\n" + conv("j", "y", 12, 4) + "o = AddV2(j, x)\n"
    graph = tiny(text)
    assert widths(graph) == {"e": 12, "s": 3}
    assert places(graph, "e") == {
        ("e/w", 3): "producer",
        ("d/w", 2): "follower",
        ("s/w", 2): "consumer",
        ("g/w", 3): "producer",
        ("j/w", 2): "consumer",
    }
    assert pins(graph, "j").startswith("it is a graph input @ x")


def test_residual_sums_tie_a_whole_stage() -> None:
    text = X + conv("a", "x", 4, 6) + conv("b", "a", 6, 6) + "s = AddV2(b, a)\n"
    text += conv("c", "s", 6, 6) + "t = Add(s, c)\n" + conv("z", "t", 6, 2)
    graph = tiny(text)
    assert widths(graph) == {"a": 6}
    assert len(places(graph, "a")) == 6


@pytest.mark.parametrize("joined", ["ConcatV2(a, b, n) Tidx=int32", "Concat(n, a, b) N=2"])
def test_concatenation_keeps_its_parts_apart(joined: str) -> None:
    text = X + conv("a", "x", 4, 6) + conv("b", "x", 4, 5) + f"n = i32[]{{3}}\nc = {joined}\n"
    graph = tiny(text + conv("z", "c", 11, 2))
    assert widths(graph) == {"a": 6, "b": 5}
    bindings = gs.analyse(graph).bindings(groups(graph)["b"])
    assert [one.positions.tolist() for one in bindings if one.param == "z/w"] == [[6, 7, 8, 9, 10]]


def test_shared_weights_tie_both_branches() -> None:
    text = "x = input 1,8,8,4\ny = input 1,8,8,4\n" + conv("a", "x", 4, 6) + "b = Conv2D(y, a/w)\n"
    text += conv("z", "a", 6, 2) + "v = Conv2D(b, z/w)\n"
    graph = tiny(text)
    assert widths(graph) == {"a": 6}
    assert places(graph, "a") == {("a/w", 3): "producer", ("z/w", 2): "consumer"}


def test_flatten_repeats_channels() -> None:
    text = X + conv("a", "x", 4, 6) + "t = i32[2]{1 384}\nf = Reshape(a, t) Tshape=int32\n"
    graph = tiny(text + "z/w = f32[384,2]{1}\nz = MatMul(f, z/w)\n")
    assert places(graph, "a") == {
        ("a/w", 3): "producer",
        ("z/w", 0): "consumer",
        ("t", 1): "shape",
    }
    dense = [one for one in gs.analyse(graph).bindings(groups(graph)["a"]) if one.param == "z/w"][0]
    np.testing.assert_array_equal(dense.channels, np.tile(np.arange(6), 64))


def test_pixel_shuffle_ties_the_channels_of_a_block() -> None:
    text = X + conv("a", "x", 4, 12) + "u = DepthToSpace(a)\n" + conv("z", "u", 3, 2)
    graph = tiny(text)
    assert widths(graph) == {"a": 3}
    filters = gs.analyse(graph).bindings(groups(graph)["a"])[0]
    np.testing.assert_array_equal(filters.channels, np.tile(np.arange(3), 4))


def test_batch_norm_of_constants() -> None:
    text = X + conv("a", "x", 4, 6)
    for name in ("mean", "var", "gamma", "beta"):
        text += f"{name} = f32[6]{{1}}\n"
    text += (
        "e = f32[]{0.001}\nve = AddV2(var, e)\nr = Rsqrt(ve)\nk = Mul(r, gamma)\nak = Mul(a, k)\n"
    )
    text += "mk = Mul(mean, k)\nsh = Sub(beta, mk)\nn = AddV2(ak, sh)\n" + conv("z", "n", 6, 2)
    graph = tiny(text)
    roles = places(graph, "a")
    assert {name for (name, _), role in roles.items() if role == "follower"} == {
        "mean",
        "var",
        "gamma",
        "beta",
    }
    assert widths(graph) == {"a": 6}


def test_depthwise_multiplier_repeats_channels() -> None:
    text = X + conv("a", "x", 4, 6) + "d/w = f32[3,3,6,2]{1}\nd = DepthwiseConv2dNative(a, d/w)\n"
    graph = tiny(text + "d/b = f32[12]{1}\nb = BiasAdd(d, d/b)\n" + conv("z", "b", 12, 2))
    assert widths(graph) == {"a": 6}
    bias = [one for one in gs.analyse(graph).bindings(groups(graph)["a"]) if one.param == "d/b"][0]
    np.testing.assert_array_equal(bias.channels, np.repeat(np.arange(6), 2))


@pytest.mark.parametrize("shape", ["", "1", "1,1,1", "8,1", "1,8,8,1"])
def test_size_one_broadcasts_and_ties_nothing(shape: str) -> None:
    graph = tiny(
        X + conv("a", "x", 4, 6) + f"k = f32[{shape}]{{1}}\nb = Mul(a, k)\n" + conv("z", "b", 6, 2)
    )
    assert places(graph, "a") == {("a/w", 3): "producer", ("z/w", 2): "consumer"}


# ------------------------------------------------------------------ pins


def test_op_without_a_rule_pins_and_is_named() -> None:
    graph = tiny(X + conv("a", "x", 4, 6) + "u = Bewilder(a)\n" + conv("z", "u", 6, 2))
    assert pins(graph, "a") == "graphslim has no rule for the op Bewilder @ u"


def test_new_op_is_one_registered_function() -> None:
    @gs.channel_rule("Bewilder")
    def bewilder(op: OpVisit) -> object:
        return op[0]

    try:
        graph = tiny(X + conv("a", "x", 4, 6) + "u = Bewilder(a)\n" + conv("z", "u", 6, 2))
        assert widths(graph) == {"a": 6}
        with pytest.raises(AnalysisError, match="Bewilder.*replace=True"):
            gs.channel_rule("Bewilder")(bewilder)
        gs.channel_rule("Bewilder", replace=True)(bewilder)
    finally:
        del CHANNEL_RULES["Bewilder"]


def test_the_channels_of_the_first_input_are_pinned_too() -> None:
    channels = gs.analyse(tiny("x = input ?,3\nw = f32[3,4]{1}\ny = MatMul(x, w)\n"))
    for name in ("x", "y"):
        assert channels.pinned()[channels.channels_at(gs.Port(name))].all()


def test_inputs_and_outputs_pin() -> None:
    graph = tiny(
        X + conv("a", "x", 4, 4) + "s = AddV2(a, x)\n" + conv("b", "s", 4, 6) + "output b\n"
    )
    assert pins(graph, "a") == "it is a graph input @ x"
    assert pins(graph, "b") == "it is a graph output @ b"


def test_channels_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(AnalysisError, match=r"b: .*channels"):
        gs.analyse(tiny(X + conv("a", "x", 4, 6) + conv("b", "a", 5, 2)))
    with pytest.raises(AnalysisError, match="do not fit"):
        gs.analyse(tiny(X + conv("a", "x", 4, 6) + "k = f32[5]{1}\nb = Mul(a, k)\n"))


def test_malformed_node_is_an_error_that_names_it() -> None:
    for line in (
        "y = Conv2D(x)",
        "y = MatMul(x)",
        "y = Split(x, x)",
        "n = i32[]{7}\ny = ConcatV2(n, n, n)",
    ):
        with pytest.raises(AnalysisError) as caught:
            gs.analyse(tiny(X + line + "\n"))
            # Some are tolerated, none may raise anything else.
            raise AnalysisError("", "text: node y")
        assert caught.value.where == "text: node y"


def test_first_axis_of_the_first_constant_makes_channels() -> None:
    """Numbers and places start with 0, which is as good as any other."""
    graph = tiny(
        "w = f32[8,4]{random 1}\nx = input 1,4\na = MatMul(x, w) transpose_b=true\n"
        "v = f32[8,3]{random 2}\nz = MatMul(a, v)\noutput z\n"
    )
    (group,) = [one for one in gs.analyse(graph).groups if one.prunable]
    bindings = gs.analyse(graph).bindings(group)
    assert {(one.param, one.axis, one.role) for one in bindings} == {
        ("w", 0, "producer"),
        ("v", 0, "consumer"),
    }


def test_group_at_a_port() -> None:
    """Where there is one: not at an input, and not where two groups lie side by side."""
    graph = tiny(
        "x = input 1,4,4,4\na/w = f32[1,1,4,8]{1}\na = Conv2D(x, a/w)\nb/w = f32[1,1,4,6]{1}\n"
        "b = Conv2D(x, b/w)\nn = i32[]{3}\nc = ConcatV2(a, b, n) Tidx=int32\ny = Relu(c)\n"
        "q = Identity(n) T=int32\n"
    )
    channels = gs.analyse(graph)
    found = {name: channels.group_at(gs.Port(name)) for name in ("a", "b", "c", "x", "q")}
    assert [found["a"].id, found["b"].id] == ["a", "b"]
    assert found["c"] is found["x"] is found["q"] is None
    labels = channels.channels_at(gs.Port("c"))
    assert labels is not None and len(labels) == 14
    assert channels.channels_at(gs.Port("q")) is None


def test_axis_that_is_not_there_has_no_channels() -> None:
    known = Fact((2, 3), (None, np.arange(3)))
    for axis in (-3, 2, 5):
        assert known.channels(axis) is None and known.size(axis) is None, axis
    assert known.size(-1) == known.size(1) == 3 and known.channels(-1) is known.ids[1]


def test_graph_without_constants() -> None:
    assert gs.analyse(tiny(X + "r = Relu(x)\n")).groups == []


# ------------------------------------------------------------------ sizes computed in the graph

SHAPE = "s = Shape(%s)\n"


def picked(name: str, at: int) -> str:
    return (
        f"{name}0 = i32[1]{{{at}}}\n{name}1 = i32[1]{{{at + 1}}}\n{name}2 = i32[1]{{1}}\n"
        f"{name} = StridedSlice(s, {name}0, {name}1, {name}2) T=int32 shrink_axis_mask=1\n"
    )


def reshaped(parts: str, inside: int = 6) -> gs.Graph:
    text = (
        X
        + conv("a", "x", 4, 6)
        + conv("q", "x", 4, 6)
        + SHAPE % "a"
        + picked("h", 1)
        + picked("c", 3)
    )
    return tiny(text + parts + conv("z", "b", inside, 2) + conv("v", "q", 6, 2))


def test_width_from_the_same_tensor_follows_it() -> None:
    graph = reshaped(
        "m = i32[]{-1}\nt = Pack(m, h, h, c) T=int32\nb = Reshape(a, t) Tshape=int32\n"
    )
    assert widths(graph) == {"a": 6, "q": 6}


def test_width_from_another_tensor_ties_the_two() -> None:
    """Else one could shrink and the number that the other is reshaped by with it."""
    graph = reshaped(
        "m = i32[]{-1}\nt = Pack(m, h, h, c) T=int32\nb = Reshape(q, t) Tshape=int32\n"
    )
    assert widths(graph) == {"a": 6}
    assert ("q/w", 3) in places(graph, "a")


def test_product_with_a_literal_is_not_taken_for_a_width() -> None:
    """H * 6 does not shrink with the 6 channels that the literal means."""
    graph = reshaped(
        "six = i32[]{6}\nk = Mul(h, six) T=int32\nm = i32[]{-1}\nt = Pack(m, h, k) T=int32\n"
        "f = Reshape(a, t) Tshape=int32\nt2 = i32[4]{1 8 8 6}\nb = Reshape(f, t2) Tshape=int32\n"
    )
    assert pins(graph, "a").endswith("@ f")
    assert "q" in widths(graph)


def test_product_of_computed_sizes_follows_the_channels() -> None:
    """Keras flattens so: Prod(Shape[1:])."""
    text = X + conv("a", "x", 4, 6) + SHAPE % "a" + "f = i32[1]{1}\nl = i32[1]{4}\no = i32[1]{1}\n"
    text += (
        "r = StridedSlice(s, f, l, o) T=int32\nn = i32[]{0}\n"
        "p = Prod(r, n) T=int32 Tidx=int32 keep_dims=false\n"
    )
    text += "m = i32[]{-1}\nt = Pack(m, p) T=int32\nb = Reshape(a, t) Tshape=int32\n"
    graph = tiny(text + "z/w = f32[384,2]{1}\nz = MatMul(b, z/w)\n")
    assert widths(graph) == {"a": 6}


def test_number_of_channels_in_arithmetic_pins_them() -> None:
    """A mean spelled as a sum over C: C may not change."""
    graph = reshaped("d = Cast(c) SrcT=int32 DstT=float32\nb = RealDiv(a, d)\n")
    assert pins(graph, "a") == "its size is used by a RealDiv @ b"


# ------------------------------------------------------------------ groups


def test_ids_are_unique_and_bindings_complete() -> None:
    text = (
        X + conv("a", "x", 4, 6) + "f = i32[4]{0 0 0 0}\nl = i32[4]{1 8 8 3}\no = i32[4]{1 1 1 1}\n"
    )
    text += "s = StridedSlice(a, f, l, o)\n" + conv("z", "a", 6, 2) + conv("v", "s", 3, 2)
    graph = tiny(text)
    found = gs.analyse(graph).groups
    assert [(one.id, len(one), one.prunable) for one in found if one.id[0] == "a"] == [
        ("a", 3, True),
        ("a#2", 3, True),
    ]
    seen: List[Tuple[str, int, int]] = []
    for group in found:
        for binding in gs.analyse(graph).bindings(group):
            assert len(binding.positions) == len(binding.channels)
            assert binding.channels.max() < len(group)
            seen.extend([(binding.param, binding.axis, int(place)) for place in binding.positions])
    assert len(seen) == len(set(seen)), "two groups claim one position"


def test_analysis_is_kept_until_the_graph_changes() -> None:
    graph = tiny(X + conv("a", "x", 4, 6) + conv("z", "a", 6, 2))
    first = gs.analyse(graph)
    assert gs.analyse(graph) is first
    graph.set_attr("a", "padding", b"VALID")
    assert gs.analyse(graph) is not first


# ------------------------------------------------------------------ numbers, and shared vectors


def test_one_number_that_says_several_sizes_stays() -> None:
    """Tile repeats the 4: rewritten for the channels, it would be wrong for height and width."""
    text = X.replace("8,8,4", "4,4,3") + conv("a", "x", 3, 4)
    text += "n = i32[1]{4}\nt = i32[1]{3}\nhwc = Tile(n, t)\nbatch = i32[1]{1}\naxis = i32[]{0}\n"
    text += "shape = ConcatV2(batch, hwc, axis)\ny = Reshape(a, shape)\n" + conv("z", "y", 4, 2)
    assert pins(tiny(text), "a") == "its size is computed from numbers that stay @ y"


@pytest.mark.parametrize("cut", ["a", "b"])
def test_of_a_shared_vector_the_original_is_for_those_that_lose_nothing(cut: str) -> None:
    text = X + "bias = f32[6]{random 1}\n"
    for name in ("a", "b"):
        text += conv(name, "x", 4, 6) + f"{name}/y = BiasAdd({name}, bias)\n"
        text += conv(f"{name}/z", f"{name}/y", 6, 2)
    graph = tiny(text)
    channels = gs.analyse(graph)
    gone = np.zeros(channels.count, bool)
    gone[groups(graph)[cut].channels[:2]] = True
    original, copy = copies_needed(Removal(channels, gone))["bias"]
    assert not original[0].any() and copy[0].tolist() == [True] * 2 + [False] * 4
    assert [use.node for use in copy[1]] == [f"{cut}/y"]


# ------------------------------------------------------------------ connected components


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[List[int]]:
    """Counts the rounds of `connected` in its one element."""
    count, plain = [0], joints._round

    def counting(*arrays: np.ndarray) -> np.ndarray:
        count[0] += 1
        return plain(*arrays)

    monkeypatch.setattr(joints, "_round", counting)
    yield count


SIZE = 1 << 14


def chains() -> Dict[str, List[Tuple[np.ndarray, np.ndarray]]]:
    line = np.arange(SIZE)
    rng = np.random.RandomState(0)
    mixed = rng.permutation(SIZE)
    bits = np.array([int(f"{number:014b}"[::-1], 2) for number in range(SIZE)])
    half = np.arange(SIZE // 2)
    zigzag = np.stack([half, half + SIZE // 2], 1).ravel()
    return {
        "rising": [(line[:-1], line[1:])],
        "falling": [(line[:0:-1], line[-2::-1])],
        "shuffled": [(mixed[:-1], mixed[1:])],
        "bit reversal": [(bits[:-1], bits[1:])],
        "low and high by turns": [(zigzag[:-1], zigzag[1:])],
        "star at the top": [(np.full(SIZE - 1, SIZE - 1), line[:-1])],
        "one tie at a time": [(line[at : at + 1], line[at + 1 : at + 2]) for at in range(SIZE - 1)],
    }


@pytest.mark.parametrize("name", sorted(chains()))
def test_rounds_grow_with_the_logarithm(name: str, rounds: List[int]) -> None:
    label, count = connected(SIZE, chains()[name])
    assert count == 1 and not label.any()
    assert rounds[0] <= 2 * 14


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60)
    )
))  # fmt: skip
def test_components_are_those_of_networkx(case: Tuple[int, List[Tuple[int, int]]]) -> None:
    count, ties = case
    graph = nx.Graph(ties)
    graph.add_nodes_from(range(count))
    wanted = sorted([sorted(one) for one in nx.connected_components(graph)])
    label, found = connected(count, [(np.array([a]), np.array([b])) for a, b in ties])
    assert found == len(wanted)
    assert [np.flatnonzero(label == place).tolist() for place in range(found)] == wanted


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_ranges_that_are_tied_as_a_whole_give_the_same_components(seed: int) -> None:
    rng = np.random.RandomState(seed)
    ranges = Ranges()
    arrays = [ranges.new(int(size)) for size in rng.choice([0, 1, 4, 4, 4, 7], rng.randint(1, 9))]
    for _ in range(rng.randint(12)):
        first, second = (arrays[at] for at in rng.randint(len(arrays), size=2))
        arrays.append(np.concatenate([first, second])[rng.randint(3) :])
    pairs = [rng.randint(len(arrays), size=2) for _ in range(8)]
    ties = [(arrays[a], arrays[b]) for a, b in pairs if len(arrays[a]) == len(arrays[b])]
    label, count = connected(ranges.count, ties, ranges)
    wanted, found = connected(ranges.count, ties)
    assert count == found
    assert (label == wanted).all()


# ------------------------------------------------------------------ pieces

WIDE = """
x = input 1,4,4,3
a/w = f32[1,1,3,{0}]{{random 1}}
a = Conv2D(x, a/w)
b/w = f32[1,1,3,{0}]{{random 2}}
b = Conv2D(x, b/w)
axis = i32[]{{3}}
joined = ConcatV2(a, b, axis)
q/w = f32[1,1,{1},5]{{random 3}}
q = Conv2D(joined, q/w)
"""


@pytest.mark.parametrize("width", [2, 64])
def test_an_axis_has_as_many_pieces_as_it_is_cut_into(width: int) -> None:
    """However wide it is: the axis of `q/w` has one for each of what is joined."""
    channels = gs.analyse(tiny(WIDE.format(width, 2 * width)))
    axis = next(axis for axis in channels.axes if (axis.param, axis.axis) == ("q/w", 2))
    touches = channels._touches
    inside = (touches.ids >= axis.start) & (touches.ids < axis.start + axis.size)
    assert touches.position[inside].tolist() == [0, width]
    assert [len(group) for group in channels.groups if group.prunable] == [width, width]


def mixed_up(rng: np.random.RandomState) -> gs.Graph:
    """Two convolutions, of whose channels parts are picked, cut out and joined, and one of all."""
    lines = ["x = input 1,4,4,3", "axis = i32[]{3}"]
    widths: Dict[str, int] = {}
    for name in ("a", "b"):
        widths[name] = int(rng.randint(2, 9))
        lines += [
            f"{name}/w = f32[1,1,3,{widths[name]}]{{random 1}}",
            f"{name} = Conv2D(x, {name}/w)",
        ]
    for number in range(rng.randint(1, 6)):
        source = str(rng.choice(sorted(widths)))
        width, name = widths[source], f"y{number}"
        kind = rng.randint(3)
        if kind == 0:
            places = rng.randint(width, size=rng.randint(1, 9))
            lines.append(f"{name}/k = i32[{len(places)}]{{{' '.join(map(str, places))}}}")
            lines.append(f"{name} = GatherV2({source}, {name}/k, axis)")
            widths[name] = len(places)
        elif kind == 1:
            begin = rng.randint(width)
            widths[name] = int(rng.randint(1, width - begin + 1))
            lines.append(f"{name}/b = i32[4]{{0 0 0 {begin}}}")
            lines.append(f"{name}/s = i32[4]{{1 4 4 {widths[name]}}}")
            lines.append(f"{name} = Slice({source}, {name}/b, {name}/s)")
        else:
            other = str(rng.choice(sorted(widths)))
            lines.append(f"{name} = ConcatV2({source}, {other}, axis)")
            widths[name] = width + widths[other]
    whole = ", ".join([*widths, "axis"])
    lines += [f"all = ConcatV2({whole})", f"q/w = f32[1,1,{sum(widths.values())},2]{{random 2}}"]
    return tiny("\n".join([*lines, "q = Conv2D(all, q/w)", "output q"]) + "\n")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_groups_are_the_channels_that_occur_in_the_same_places(seed: int) -> None:
    channels = gs.analyse(mixed_up(np.random.RandomState(seed)))
    places: Dict[int, List[Tuple[str, int]]] = {}
    for index, axis in enumerate(channels.axes):
        for label in channels.label[axis.start : axis.start + axis.size]:
            places.setdefault(int(label), []).append(("axis", index))
    for index, count in enumerate([*channels.resizes, *channels.renumbers]):
        for label in channels.label[count.ids]:
            places.setdefault(int(label), []).append(("count", index))
    pinned = channels.pinned()
    alike: Dict[Any, List[int]] = {}
    for label, found in sorted(places.items()):
        alike.setdefault((frozenset(found), bool(pinned[label])), []).append(label)
    made = {int(label) for group in channels.groups for label in group.channels}
    wanted = [labels for labels in alike.values() if made.issuperset(labels)]
    assert sorted(sorted(group.channels.tolist()) for group in channels.groups) == sorted(wanted)


# ------------------------------------------------------------------ ops of one kind


def alike(width: int) -> gs.Graph:
    """Three convolutions, the biases of which share their attributes."""
    text, source = X, "x"
    for name, inside, out in (("a", 4, 6), ("b", 6, width), ("c", width, 3)):
        text += conv(name, source, inside, out)
        text += f"{name}/b = f32[{out}]{{1}}\n{name}/s = BiasAdd({name}, {name}/b)\n"
        source = f"{name}/s"
    graph = tiny(text)
    for name in ("b", "c"):
        own = graph[f"{name}/s"]
        shared = gs.Node(own.name, own.op, graph["a/s"].attrs)
        graph.replace(shared, graph.inputs_of(own))
    return graph


@pytest.mark.parametrize("module, times", [("graphslim.ops.elementwise", 1), ("mine", 3)])
def test_a_rule_is_asked_once_for_all_ops_of_a_kind(
    monkeypatch: pytest.MonkeyPatch, module: str, times: int
) -> None:
    asked: List[str] = []
    rule = CHANNEL_RULES["BiasAdd"]

    def counting(op: OpVisit) -> Any:
        asked.append(op.node.name)
        return rule(op)

    counting.__module__ = module
    monkeypatch.setitem(CHANNEL_RULES, "BiasAdd", counting)
    graph = alike(5)
    assert widths(graph) == {"a": 6, "b": 5}
    assert asked == ["a/s", "b/s", "c/s"][:times]
    assert places(graph, "b") == {
        ("b/w", 3): "producer",
        ("b/b", 0): "follower",
        ("c/w", 2): "consumer",
    }
    assert pins(graph, "c") == "it is a graph output @ c/s"


def test_a_size_of_one_makes_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[str] = []
    rule = CHANNEL_RULES["BiasAdd"]

    def counting(op: OpVisit) -> Any:
        asked.append(op.node.name)
        return rule(op)

    counting.__module__ = "graphslim.ops.elementwise"
    monkeypatch.setitem(CHANNEL_RULES, "BiasAdd", counting)
    assert widths(alike(1)) == {"a": 6, "b": 1}
    assert asked == ["a/s", "b/s"]


def test_a_rule_that_looks_around_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[str] = []
    rule = CHANNEL_RULES["BiasAdd"]

    def looking(op: OpVisit) -> Any:
        asked.append(op.node.name)
        if any(node.op == "Conv2D" for node in op.readers()):
            op.pin(op[0].channels(-1), "a convolution reads it")
        return rule(op)

    looking.__module__ = "graphslim.ops.elementwise"
    monkeypatch.setitem(CHANNEL_RULES, "BiasAdd", looking)
    graph = alike(5)
    assert widths(graph) == {} and asked == ["a/s", "b/s", "c/s"]
    assert pins(graph, "c") == "it is a graph output @ c/s"

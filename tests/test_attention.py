"""Transformers: channels of all heads alike, whole heads, and the hidden size through its norms."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from attention_nets import HEADS, HIDDEN, INNER, TIME, bert, keras, vit
from command import Run

import graphslim as gs
from graphslim.channels.groups import Group, analyse
from graphslim.plans import read_plan
from graphslim.runtime import Session
from graphslim.testing import assert_mask_equivalent, random_plan

pytestmark = pytest.mark.tf
NETS = {"bert": bert, "vit": vit}
Build = Callable[..., gs.Graph]


@pytest.fixture(params=sorted(NETS))
def build(request: Any) -> Build:
    return NETS[request.param]


def inputs_for(graph: gs.Graph) -> Dict[str, np.ndarray]:
    rng = np.random.RandomState(3)
    if graph.name == "bert.pb":
        return {"input": rng.randint(0, 11, (2, TIME)).astype(np.int32)}
    return {"input": rng.normal(size=(2, 4, 4, 3)).astype(np.float32)}


def free(graph: gs.Graph) -> Dict[str, int]:
    return {group.id: len(group) for group in analyse(graph).groups if group.prunable}


def attending(graph: gs.Graph, group: Group) -> Dict[str, int]:
    """Of the weights in attention that a group touches, how many positions are its own."""
    found: Dict[str, int] = {}
    for binding in analyse(graph).bindings(group):
        if binding.role in ("producer", "consumer") and binding.param.endswith("/w"):
            found[binding.param.split("/")[-2]] = len(binding.positions)
    return found


# ------------------------------------------------------------------ what may go


def test_channels_per_head(build: Build) -> None:
    """Q and k lose the same, v what the product behind it does; each head loses as many."""
    graph = build(size=6)
    width = HEADS * 6
    groups = [group for group in analyse(graph).groups if "layer0" in group.id]
    found = [each for each in (attending(graph, one) for one in groups if one.prunable) if each]
    if graph.name == "vit.pb":
        assert {"qkv": 3 * width, "out": width} in found
        assert free(graph)["layer0/qkv/product"] == 6
    else:
        assert {"q": width, "k": width} in found and {"v": width, "out": width} in found
        assert free(graph)["layer0/q/product"] == free(graph)["layer0/v/product"] == 6


@pytest.mark.parametrize("size", [3, 6])
def test_whole_heads(build: Build, size: int) -> None:
    """A head goes with all its columns of q, k and v, and its rows of the product behind."""
    graph = build(size=size)
    graph.asked = frozenset({"whole_heads"})
    name = "layer0/qkv/product" if graph.name == "vit.pb" else "layer0/q/product"
    (group,) = [one for one in analyse(graph).groups if one.id == name]
    width = HEADS * size
    assert len(group) == HEADS and group.prunable
    expected = (
        {"qkv": 3 * width} if graph.name == "vit.pb" else {"q": width, "k": width, "v": width}
    )
    assert attending(graph, group) == {**expected, "out": width}
    plan = gs.plan(graph, removed={name: [1, 2]})
    assert plan.whole_heads
    gone = {cut.param: cut.removed for planned in plan.groups for cut in planned.cuts}
    assert gone["layer0/out/w"] == tuple(range(size, 3 * size))


def test_hidden_size_goes_through_its_norms(build: Build) -> None:
    graph = build()
    assert HIDDEN not in free(graph).values()
    graph.through_norms = True
    assert list(free(graph).values()).count(HIDDEN) == 1
    assert list(free(graph).values()).count(INNER) == 2
    assert not [group for group in analyse(graph).groups if not group.prunable and len(group) > 3]


# ------------------------------------------------------------------ what the result computes


@pytest.mark.parametrize("asked", [(), ("through_norms",), ("through_norms", "whole_heads")])
@pytest.mark.parametrize(("size", "batch"), [(6, 2), (3, None), (4, None)])
def test_mask_equivalence(build: Build, asked: Any, size: int, batch: Any) -> None:
    graph = build(size=size, batch=batch)
    graph.asked = frozenset(asked)
    assert_mask_equivalent(graph, random_plan(graph), inputs_for(graph), tolerance=1e-5)


@pytest.mark.parametrize("whole", [False, True])
def test_result_is_what_numpy_says(build: Build, whole: bool) -> None:
    """An implementation of its own, that leaves heads, channels and hidden channels out."""
    size = 6
    graph = build(size=size)
    graph.asked = frozenset({"through_norms", *(["whole_heads"] if whole else [])})
    plan = random_plan(graph)
    slim = gs.apply(graph, plan)
    with Session(slim, optimize=False) as session:
        (result,) = session.run(inputs_for(graph))
    wanted = _Numpy(graph, plan, size).run(inputs_for(graph)["input"])
    assert np.abs(result - wanted).max() <= 1e-4 * np.ptp(wanted)


class _Numpy:
    """A transformer of `attention_nets`, whose weights for what a plan removes are zero."""

    def __init__(self, graph: gs.Graph, plan: gs.Plan, size: int) -> None:
        self.is_bert, self.size = graph.name == "bert.pb", size
        self.values = {
            node.name: np.array(node.attrs["value"].numbers(), np.float64)
            for node in graph
            if node.op == "Const" and node.attrs["value"].dtype.is_floating
        }
        first = "words" if self.is_bert else "patches/w"
        self.stays = np.ones(HIDDEN)
        for cut in (cut for group in plan.groups for cut in group.cuts):
            if cut.param == first:
                self.stays[list(cut.removed)] = 0
            elif cut.role in ("producer", "follower", "consumer") and "/norm" not in cut.param:
                # What is zero in q, k or v adds nothing; a bias goes with its channel.
                index = (slice(None),) * cut.axis + (list(cut.removed),)
                self.values[cut.param][index] = 0

    def dense(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.values[f"{name}/w"] + self.values[f"{name}/b"]

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        rest = x[..., self.stays > 0]
        mean, variance = rest.mean(-1, keepdims=True), rest.var(-1, keepdims=True)
        normed = (x - mean) / np.sqrt(variance + 1e-3) * self.values[f"{name}/gamma"]
        return (normed + self.values[f"{name}/beta"]) * self.stays

    def attention(self, x: np.ndarray, name: str) -> np.ndarray:
        names = [f"{name}/{each}" for each in (["q", "k", "v"] if self.is_bert else ["qkv"])]
        joined = np.concatenate([self.dense(x, each) for each in names], -1)
        split = joined.reshape(*x.shape[:2], 3, HEADS, self.size)
        q, k, v = np.moveaxis(split.transpose(0, 3, 1, 2, 4), 3, 0)
        scores = np.exp(q @ k.swapaxes(2, 3) * self.size**-0.5)
        mixed = scores / scores.sum(-1, keepdims=True) @ v
        return self.dense(mixed.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1), f"{name}/out")

    def inner(self, x: np.ndarray, name: str) -> np.ndarray:
        return self.dense(np.maximum(self.dense(x, f"{name}/up"), 0), f"{name}/down")

    def run(self, given: np.ndarray) -> np.ndarray:
        if self.is_bert:
            x = self.norm(self.values["words"][given] + self.values["places"], "first")
        else:
            patches = given.reshape(-1, 2, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)
            filters = self.values["patches/w"].reshape(-1, HIDDEN)
            x = patches.reshape(-1, 4, 12) @ filters + self.values["places"]
        for layer in ("layer0", "layer1"):
            if self.is_bert:
                x = self.norm(x + self.attention(x, layer), f"{layer}/norm1")
                x = self.norm(x + self.inner(x, layer), f"{layer}/norm2")
            else:
                x = x + self.attention(self.norm(x, f"{layer}/norm1"), layer)
                x = x + self.inner(self.norm(x, f"{layer}/norm2"), layer)
        if not self.is_bert:
            x = self.norm(x, "last").mean(1, keepdims=True)
        return self.dense(x, "classes")


# ------------------------------------------------------------------ weights of heads


@pytest.fixture(params=[False, True], ids=["matrices", "Einsum"])
def of_heads(request: Any) -> gs.Graph:
    """A network whose weights have an axis for heads, and one for the channels of each."""
    graph = keras(request.param, size=6)
    if request.param and "Einsum" not in {node.op for node in graph}:
        pytest.skip("this TensorFlow has no op for an einsum")
    return graph


def named(graph: gs.Graph) -> Dict[str, str]:
    """The groups of heads, of channels of q and k, and of channels of v."""
    behind = "/Einsum" if graph.name == "einsum.pb" else ""
    q, v = [f"layer0/{name}/product{behind}" for name in "qv"]
    return {"heads": q, "q": f"{q}#2", "v": v}


def test_weights_of_heads_lose_heads_and_channels(of_heads: gs.Graph) -> None:
    """Both are axes of the same weights, so that both may go."""
    names, found = named(of_heads), free(of_heads)
    assert [found[name] for name in names.values()] == [HEADS, 6, 6]
    of = {group.id: attending(of_heads, group) for group in analyse(of_heads).groups}
    assert of[names["heads"]] == {**dict.fromkeys("qkv", HEADS), "out": HEADS}
    assert of[names["q"]] == {"q": 6, "k": 6} and of[names["v"]] == {"v": 6, "out": 6}
    removed = {names["heads"]: [1], names["q"]: [0, 5], names["v"]: [3]}
    slim = gs.apply(of_heads, gs.plan(of_heads, removed=removed))
    shapes = {name: slim[f"layer0/{name}/w"].attrs["value"].shape for name in ("q", "v", "out")}
    assert shapes == {"q": (HIDDEN, 3, 4), "v": (HIDDEN, 3, 5), "out": (3, 5, HIDDEN)}


def test_weights_of_heads_are_cut_as_the_mask_says(of_heads: gs.Graph) -> None:
    of_heads.through_norms = True
    for seed in range(3):
        plan = random_plan(of_heads, seed=seed)
        assert_mask_equivalent(of_heads, plan, inputs_for(of_heads), tolerance=1e-5)


@pytest.mark.parametrize("criterion", ["l1", "obs"])
def test_weights_of_heads_are_scored(of_heads: gs.Graph, criterion: str) -> None:
    """A head that is zero goes first, and so does a channel that is zero in all heads."""
    for name, axis in (("q/w", 1), ("k/w", 1), ("v/w", 1), ("v/b", 0), ("out/w", 0)):
        tensor = of_heads[f"layer0/{name}"].attrs["value"]
        weights = np.moveaxis(np.array(tensor.numbers()), (axis, axis + 1), (0, 1))
        weights[2] = 0.0
        if name[0] in "vo":
            weights[:, 4] = 0.0
        numbers = np.moveaxis(weights, (0, 1), (axis, axis + 1))
        of_heads.set_attr(f"layer0/{name}", "value", tensor.with_numbers(numbers))
    some: Dict[str, Any] = {"rank": "local", "multiple_of": 1}
    if criterion != "l1":
        some["data"] = inputs_for(of_heads)
    plan = gs.plan(of_heads, criterion=criterion, ratio=0.25, **some)
    gone = {group.id: list(group.removed) for group in plan.groups}
    names = named(of_heads)
    assert 2 in gone[names["heads"]] and 4 in gone[names["v"]]


def test_matrices_made_of_weights_of_heads_are_fitted() -> None:
    graph = keras(size=6, batch=None)
    names = named(graph)
    plan = gs.plan(graph, removed={names["heads"]: [1], names["v"]: [0, 3]})
    rng = np.random.RandomState(4)
    data = {"input": rng.normal(size=(64, 4, 4, 3)).astype(np.float32)}
    repaired = gs.repair(graph, gs.apply(graph, plan), plan, data=data, stages=["least-squares"])
    (stage,) = repaired.stages
    (layer,) = [one for one in stage.layers if one.name == "layer0/out/product"]
    assert stage.kept and layer.after < 0.9 * layer.before
    assert repaired.graph["layer0/out/w"].attrs["value"].shape == (HEADS - 1, 4, HIDDEN)


# ------------------------------------------------------------------ the command line


def test_command_line(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    run = Run(tmp_path, capsys, monkeypatch)
    gs.save(vit(size=6), "vit.pb")
    words = ["vit.pb", "--criterion", "l1", "--ratio", "0.5", "--rank", "local", "--through-norms"]
    words += ["--multiple-of", "1"]
    run("plan", *words, "--whole-heads", "-o", "plan.json")
    plan = read_plan("plan.json")
    assert plan.whole_heads and plan.through_norms
    kept = {group.id: group.channels - len(group.removed) for group in plan.groups}
    assert kept["layer0/qkv/product"] == HEADS // 2 and kept["patches"] == HIDDEN // 2
    run("apply", "vit.pb", "plan.json", "-o", "slim.pb")
    run("verify", "vit.pb", "slim.pb", "--plan", "plan.json")
    run("prune", *words, "--whole-heads", "-o", "again.pb")
    assert Path("again.pb").read_bytes() == Path("slim.pb").read_bytes()
    groups: List[Any] = run("inspect", "vit.pb", "--whole-heads", "--json").json["groups"]
    assert {one["channels"] for one in groups if "qkv" in one["id"]} == {HEADS}

"""Channels that go through norms: the norm runs over those that stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from command import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from norm_nets import NORMS, SIZE, Layer, NormNet
from tiny import dead, tiny

import graphslim as gs
from graphslim.channels.groups import analyse
from graphslim.errors import PlanError
from graphslim.measure.verify import check
from graphslim.plans import read_plan
from graphslim.rewrite import zero_consumers
from graphslim.runtime import Session, version
from graphslim.testing import assert_mask_equivalent, random_plan, round_trip, to_text

pytestmark = pytest.mark.tf
NAMES = [*sorted(NORMS), "group 1", "group 2", "group 4", "fused"]
SPELLINGS = [(name, first) for name in NAMES for first in ([False, True] if name in NORMS else [0])]


def pins(graph: gs.Graph) -> List[str]:
    return [group.id for group in analyse(graph).groups if not group.prunable]


def through(graph: gs.Graph) -> gs.Graph:
    graph.through_norms = True
    return graph


def runs(name: str) -> bool:
    return name != "fused" or not version().startswith("1.")


def gone_of(plan: gs.Plan, count: int) -> Dict[int, List[int]]:
    """By layer of a `NormNet`, the channels of its product that a plan removes."""
    return {
        index: sorted(
            {
                position
                for group in plan.groups
                for cut in group.cuts
                if (cut.param, cut.axis) == (f"a{index}/w", 3)
                for position in cut.removed
            }
        )
        for index in range(count)
    }


def assert_as_stated(net: NormNet, plan: gs.Plan, slim: gs.Graph) -> None:
    """Asserts that a cut network computes the norms over the channels that stay, by numpy."""
    x = np.random.RandomState(1).normal(size=(1, SIZE, SIZE, 4)).astype(np.float32)
    with Session(slim, optimize=False) as session:
        (result,) = session.run({"x": x})
    wanted = net.cut(x, gone_of(plan, len(net.layers)))
    assert np.abs(result - wanted).max() <= 1e-4 * np.ptp(wanted)


# ------------------------------------------------------------------ what goes


@pytest.mark.parametrize(("name", "first"), SPELLINGS)
def test_norm_runs_over_what_stays(name: str, first: bool) -> None:
    layers = [Layer(12, name, first), Layer(12, name, first, residual=True), Layer(8, "RMS")]
    net = NormNet(layers)
    graph = net.graph()
    assert {"a2/y", "z"} <= set(pins(graph)), "without the option a norm pins"
    assert pins(through(graph)) == ["z"]
    plan = random_plan(graph)
    assert gone_of(plan, 3)[0] == gone_of(plan, 3)[1], "the sum ties both layers"
    assert plan.through_norms
    if runs(name):
        assert_as_stated(net, plan, assert_mask_equivalent(graph, plan, tolerance=1e-5))


def test_group_norm_loses_the_same_channels_of_each_group() -> None:
    graph = through(NormNet([Layer(12, "group 2")]).graph())
    (gone,) = gone_of(random_plan(graph), 1).values()
    assert [place for place in gone if place < 6] == [place - 6 for place in gone if place >= 6]


def test_group_norm_loses_whole_groups_where_there_are_more() -> None:
    graph = through(NormNet([Layer(12, "group 4")]).graph())
    (gone,) = gone_of(random_plan(graph), 1).values()
    assert len(gone) == 6 and len({place // 3 for place in gone}) == 2


@given(
    st.lists(
        st.builds(
            Layer,
            st.sampled_from((8, 12, 4)),
            st.sampled_from([name for name in NAMES if runs(name)]),
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 99),
    st.sampled_from((0.5, 0.25, 0.75)),
)
@settings(max_examples=12, deadline=None)
def test_random_networks_compute_as_stated(layers: List[Layer], seed: int, ratio: float) -> None:
    layers = [layer._replace(first=layer.first and layer.norm in NORMS) for layer in layers]
    net = NormNet(layers, seed)
    graph = net.graph()
    plan = random_plan(through(graph), seed, ratio, allow_empty=True)
    slim = round_trip(gs.apply(graph, plan))
    assert_as_stated(net, plan, slim)
    surgery, _ = check(graph, slim, plan)
    assert surgery.ok and ("norms" in surgery.against) == plan.through_norms


def test_masked_original_takes_the_norm_of_the_rest() -> None:
    """The reference itself, by numpy: it has the outputs of the cut network at full width."""
    net = NormNet([Layer(12, "moments"), Layer(8, "L2")])
    graph = through(net.graph())
    plan = random_plan(graph)
    masked = zero_consumers(graph, plan)
    assert masked["a0/w"].attrs["value"].shape == (1, 1, 4, 12)
    assert_as_stated(net, plan, masked)


# ------------------------------------------------------------------ what is no norm


NORM = (
    "m = Mean(a, n)\nq = SquaredDifference(a, m)\nv = Mean(q, n)\ne = AddV2(v, eps)\n"
    "r = Rsqrt(e)\nd = Sub(a, m)\ny = Mul(d, r)\n"
)
NO_NORMS = {
    "a mean that something else reads": NORM + "k = Mul(d, r)\ny2 = Mul(k, m)\n",
    "a variance that something else reads": NORM + "y2 = Mul(y, v)\n",
    "a mean alone": "m = Mean(a, n)\ny2 = Sub(a, m)\n",
    "a mean that gates": "m = Mean(a, n)\ng = Sigmoid(m)\ny2 = Mul(a, g)\n",
    "squares divided by their number": "q = Square(a)\ns = Sum(q, n) keep_dims=true\n"
    "v = RealDiv(s, eight)\nr = Rsqrt(v)\ny2 = Mul(a, r)\n",
    "a sum of squares about the mean": "m = Mean(a, n)\nq = SquaredDifference(a, m)\n"
    "s = Sum(q, n) keep_dims=true\nr = Rsqrt(s)\nd = Sub(a, m)\ny2 = Mul(d, r)\n",
    "a length that scales another tensor": "q = Square(a)\nv = Mean(q, n)\nr = Rsqrt(v)\n"
    "b = Relu(a)\ny2 = Mul(b, r)\n",
    "a mean of other axes": "m = Mean(a, n)\nq = SquaredDifference(a, m)\nv = Mean(q, all)\n"
    "e = AddV2(v, eps)\nr = Rsqrt(e)\nd = Sub(a, m)\ny2 = Mul(d, r)\n",
    "a softmax": "m = Max(a, n) keep_dims=true Tidx=int32\nd = Sub(a, m)\nq = Exp(d)\n"
    "s = Sum(q, n) keep_dims=true\ny2 = RealDiv(q, s)\n",
}


@pytest.mark.parametrize("name", sorted(NO_NORMS))
def test_what_is_no_norm_pins(name: str) -> None:
    graph = tiny(
        "x = input 1,4,4,4\nw = f32[1,1,4,8]{random 1}\na = Conv2D(x, w)\nn = i32[1]{3}\n"
        f"all = i32[2]{{2 3}}\neps = f32[]{{0.01}}\neight = f32[]{{8}}\n{NO_NORMS[name]}"
        "z/w = f32[1,1,8,3]{random 4}\nz = Conv2D(y2, z/w)\noutput z\n"
    )
    before = {group.id: group.pinned_by for group in analyse(graph).groups}
    assert before["a"] is not None
    after = {group.id: group.pinned_by for group in analyse(through(graph)).groups}
    assert after == before


def test_statistics_that_are_outputs_pin() -> None:
    graph = tiny(
        "x = input 1,4,4,4\nw = f32[1,1,4,8]{random 1}\na = Conv2D(x, w)\nn = i32[1]{3}\n"
        f"eps = f32[]{{0.01}}\n{NORM}z/w = f32[1,1,8,3]{{random 4}}\nz = Conv2D(y, z/w)\n"
        "output z\noutput m\n"
    )
    assert "a" in pins(through(graph))


def test_batch_norm_in_training_over_channels_pins() -> None:
    """Its channels once went without the option, and the norm with them."""
    graph = NormNet([Layer(8, "fused")]).graph()
    assert pins(graph) == ["a0/y", "z"]
    why = [group.pinned_by for group in analyse(graph).groups][0]
    assert why == "it is normalised over channels (a batch norm in training)"


def test_advice_names_the_option() -> None:
    (group, _) = analyse(NormNet([Layer(8, "moments")]).graph()).groups
    assert "--through-norms" in group.pinned_by.advice  # type: ignore[union-attr]


# ------------------------------------------------------------------ dead channels


def test_a_channel_of_zeros_counts_in_a_norm() -> None:
    """Without it the mean would be another one: a dead channel may change no output."""
    net = NormNet([Layer(8, "moments")])
    net.weights[0][:, 2] = 0
    net.weights[1][2] = 0
    graph = net.graph()
    assert not dead(graph) and not dead(through(graph))
    plan = gs.plan(graph, through_norms=True)
    assert not plan.removed


# ------------------------------------------------------------------ plans and the command line


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    return Run(tmp_path, capsys, monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    gs.save(NormNet([Layer(16, "moments"), Layer(8, "RMS")]).graph(), str(tmp_path / "net.pb"))
    return tmp_path


def test_option_off_leaves_everything_as_it_was() -> None:
    graph = NormNet([Layer(8, "moments")]).graph()
    text = to_text(graph)
    for allowed in (None, False):
        with pytest.raises(PlanError, match="at most 0"):
            gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1, through_norms=allowed)
    plan = gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1, through_norms=True)
    assert plan.removed == 4 and not graph.through_norms and to_text(graph) == text
    slim = gs.apply(graph, plan)
    assert not slim.through_norms and to_text(graph) == text
    assert gs.verify(graph, slim, plan=plan).ok
    in_place = graph.copy()
    gs.apply_in_place(in_place, plan)
    assert to_text(in_place) == to_text(slim) and not in_place.through_norms


def test_network_without_norms_has_the_same_plan_either_way() -> None:
    graph = tiny(
        "x = input 1,4,4,4\nw = f32[1,1,4,8]{random 1}\na = Conv2D(x, w)\ny = Relu(a)\n"
        "z/w = f32[1,1,8,3]{random 4}\nz = Conv2D(y, z/w)\noutput z\n"
    )
    plans = [
        gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1, through_norms=on)
        for on in (False, True)
    ]
    assert plans[0].to_json() == plans[1].to_json()


def test_given_channels_go_through_norms() -> None:
    graph = NormNet([Layer(8, "L2")]).graph()
    plan = gs.plan(graph, removed={"a0/y": [1, 2]}, through_norms=True)
    assert plan.through_norms and gs.verify(graph, gs.apply(graph, plan), plan=plan).ok
    with pytest.raises(PlanError, match="cannot be pruned"):
        gs.plan(graph, removed={"a0/y": [1, 2]})


def test_plan_file_says_how_it_was_made(run: Run, files: Path) -> None:
    model, plan, out = str(files / "net.pb"), str(files / "p.json"), str(files / "out.pb")
    choice = ["--criterion", "l1", "--ratio", "0.5", "--multiple-of", "1"]
    assert run("plan", model, "-o", plan, *choice, "--through-norms").status == 0
    assert read_plan(plan).settings["through_norms"] is True
    applied = run("apply", model, plan, "-o", out)
    assert applied.status == 0
    assert "takes its norms over the others" in " ".join(applied.out.split())
    verified = run("verify", model, out, "--plan", plan, "--json")
    assert verified.status == 0
    assert json.loads(verified.out)["against"].endswith("its norms over the channels that stay")
    assert run("prune", model, "-o", str(files / "b.pb"), *choice, "--through-norms").status == 0
    assert (files / "b.pb").read_bytes() == (files / "out.pb").read_bytes()


def test_inspect_shows_the_groups(run: Run, files: Path) -> None:
    model = str(files / "net.pb")
    plain = json.loads(run("inspect", model, "--json").out)["groups"]
    free = json.loads(run("inspect", model, "--through-norms", "--json").out)["groups"]
    assert [group["prunable"] for group in plain] == [False, False, False]
    assert [group["prunable"] for group in free] == [True, True, False]


def test_checkpoints_are_refused() -> None:
    from graphslim.checkpoint.fitting import fitting

    plan = gs.plan(NormNet([Layer(8, "RMS")]).graph(), removed={"a0/y": [1]}, through_norms=True)
    with pytest.raises(PlanError, match="takes channels through norms"):
        fitting(None, plan)  # type: ignore[arg-type]


def test_repair_goes_through_norms(run: Run, files: Path) -> None:
    data = {"x": np.random.RandomState(0).normal(size=(40, SIZE, SIZE, 4)).astype(np.float32)}
    np.savez(str(files / "data.npz"), **data)
    words = [
        "--criterion",
        "l1",
        "--ratio",
        "0.5",
        "--multiple-of",
        "1",
        "--repair",
        "--steps",
        "5",
    ]
    words = ["prune", str(files / "net.pb"), *words, "--data", str(files / "data.npz")]
    plan, out = str(files / "p.json"), str(files / "out.pb")
    run(*words, "-o", out, "--plan-out", plan)
    assert read_plan(plan).through_norms and read_plan(plan).removed
    refused = run(*words, "-o", out, "--no-through-norms", status=2)
    assert "at most 0" in refused.err

"""Criteria: what each says of known weights, how one is found and declared, what it removes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring import (
    NORMS,
    PLAIN,
    RESIDUAL,
    WEIGHTS,
    call,
    custom,
    filters,
    normed,
    scored,
    with_numbers,
)
from tiny import constant, tiny

import graphslim as gs
from graphslim.errors import PlanError
from graphslim.scoring import find_criterion, registry
from graphslim.scoring import functions as built_in
from graphslim.scoring.scores import aggregated, without_noise

DIGITS = Path(__file__).resolve().parents[1] / "fixtures" / "digits_mobilenet_v2_se.pb"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_CRITERIA", dict(registry._CRITERIA))
    yield


# ---------------------------------------------------------------------- each on known weights


def test_redundancy_is_the_share_below_the_layers_mean() -> None:
    weights = [[1, -1, 1, 1], [5, -5, 1, 1], [-9, 9, 9, 9]]  # the mean magnitude is 52 / 12
    assert call("redundancy", weights).tolist() == [1.0, 0.5, 0.0]


def test_redundancy_does_not_count_a_weight_that_is_the_mean() -> None:
    """However the layer is scaled, and whatever that does to the last bits of its mean."""
    for factor in np.random.RandomState(0).uniform(0.1, 10, 100):
        assert call("redundancy", factor * np.array([[1.0, 2, 3]])).tolist() == [1 / 3], factor


def test_redundancy_compares_with_the_whole_layer() -> None:
    """Half of the layer's filters are split off into a group that is pinned."""
    graph = tiny("""
        x = input 1,6,6,1
        w = f32[1,1,1,4]{1 3 8 8}
        y = Conv2D(x, w)
        zero = i32[4]{0 0 0 0}
        two = i32[4]{0 0 0 2}
        size = i32[4]{1 6 6 2}
        s = Slice(y, zero, size)
        t = Slice(y, two, size)
        r = Relu(s)
        v = f32[1,1,2,2]{random 2}
        z = Conv2D(r, v)
        out = Softmax(t)
        output z
        output out
    """)
    found = scored(graph, "redundancy")
    assert {name: own.tolist() for name, own in found.own.items()} == {"y": [1.0, 1.0]}


def test_l1_and_l2_are_norms() -> None:
    weights = [[3, -4, 0], [0, 0, 1], [-1, 1, 1]]
    assert call("l1", weights).tolist() == [7.0, 1.0, 3.0]
    assert call("l2", weights) == pytest.approx([5.0, 1.0, 3**0.5])


def test_fpgm_sums_the_distances_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.RandomState(3).normal(5, 1, (7, 12))
    expected = [sum(np.linalg.norm(one - other) for other in rows) for one in rows]
    for chunk in (3, 7, 100):
        monkeypatch.setattr(built_in, "_CHUNK", chunk)
        assert call("fpgm", rows) == pytest.approx(expected, rel=1e-12)


def test_fpgm_of_filters_that_are_alike_is_nothing() -> None:
    assert call("fpgm", np.full((5, 3), 1e6)).tolist() == [0.0] * 5


def test_lamp_divides_by_the_filters_that_are_not_smaller() -> None:
    weights = [[2, 0], [0, 1], [3, 0], [0, -1]]  # squared norms 4, 1, 9, 1
    assert call("lamp", weights) == pytest.approx([4 / 13, 1 / 15, 1.0, 1 / 15])
    assert call("lamp", np.zeros((3, 2))).tolist() == [0.0] * 3


def test_random_depends_on_the_seed_and_the_layer_alone() -> None:
    graph = tiny(RESIDUAL)
    first = scored(graph, "random", seed=5)
    assert scored(graph, "random", seed=5).own["a"].tolist() == first.own["a"].tolist()
    assert scored(graph, "random", seed=6).own["a"].tolist() != first.own["a"].tolist()
    a, b = [np.random.RandomState([5, crc]).uniform(size=4) for crc in map(crc32, (b"w", b"u"))]
    both = (a / a.mean() + b / b.mean()) / 2 * a.mean()
    assert first.own["a"] == pytest.approx(both)


# ---------------------------------------------------------------------- whatever the weights


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    graph = normed(NORMS["fused"])
    for param in ("w", "gamma"):
        numbers = constant(graph, param).copy()
        numbers.flat[1] = bad
        with_numbers(graph, param, numbers)
    where = "gamma" if name == "bn-scale" else "w"
    with pytest.raises(PlanError, match=f"^{where}: 1 of its weights are NaN or infinite"):
        scored(graph, name)


@pytest.mark.parametrize("name", ["l1", "l2", "lamp", "redundancy"])
def test_equal_filters_tie_exactly(name: str) -> None:
    """The same weights in another order are summed with other rounding errors."""
    draw = np.random.RandomState(0)
    numbers = draw.normal(size=27)
    rows = np.array([draw.permutation(numbers) for _ in range(20)] + [2 * numbers])
    _, noisy = aggregated(call(name, rows)[None], find_criterion(name), "mean")
    rank = without_noise(noisy)
    assert (rank[:-1] == rank[0]).all() and rank[-1] != rank[0]


@given(
    numbers=st.lists(st.integers(-6, 6), min_size=20, max_size=20),
    factor=st.floats(1e-6, 1e6),
    name=st.sampled_from([one for one in WEIGHTS if one != "random"]),
)
@settings(max_examples=200, deadline=None)
def test_scaling_a_layer_changes_no_ranking(numbers: List[int], factor: float, name: str) -> None:
    """Ties included."""
    weights = np.array(numbers, np.float64).reshape(5, 4)
    rule = find_criterion(name)
    before, after = [
        without_noise(aggregated(call(name, scale * weights)[None], rule, "mean")[1])
        for scale in (1.0, factor)
    ]
    order = [np.argsort(rank, kind="stable").tolist() for rank in (before, after)]
    assert order[0] == order[1]


# ---------------------------------------------------------------------- criteria of one's own


def test_a_criterion_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "import graphslim as gs\n"
        "@gs.criterion('heaviest', redundant=True)\n"
        "def heaviest(weights):\n"
        "    'The largest weight.'\n"
        "    return weights.max(axis=1)\n"
        "def plain(weights):\n"
        "    'The smallest weight.'\n"
        "    return weights.min(axis=1)\n"
    )
    found = find_criterion(f"{path}:heaviest")
    assert (found.name, found.redundant, found.source) == ("heaviest", True, "The largest weight.")
    assert find_criterion(f"{path}:heaviest") == find_criterion("heaviest") == found
    plain = find_criterion(f"{path}:plain")
    assert (plain.name, plain.redundant, plain.roles) == ("plain", False, ("producer",))
    graph = tiny(PLAIN)
    assert scored(graph, f"{path}:plain").own["y"] == pytest.approx(filters(graph).min(axis=1))


@pytest.mark.parametrize(
    "name, message",
    [
        ("l11", r"no criterion 'l11' \(did you mean l1\?\)"),
        ("xyz", "no criterion 'xyz' .*one of: activation, "),
        ("own.py", "name the function too"),
        ("nowhere.py:f", "no such file: nowhere.py"),
        ("no_such_module:f", "cannot be imported"),
        ("math:pi", "no function 'pi' in math"),
        ("math:nothing", "no function 'nothing' in math"),
    ],
)
def test_a_criterion_that_is_none(name: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        find_criterion(name)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "l1"}, "registered already"),
        ({"roles": ("maker",)}, "bad roles"),
        ({"roles": "producer"}, "bad roles"),
        ({"roles": ()}, "bad roles"),
        ({"kind": "labels"}, "no kind 'labels'"),
        ({"aggregate": "median"}, "no way to aggregate called 'median'"),
        ({"name": ""}, "needs a name"),
    ],
)
def test_a_criterion_that_is_badly_declared(options: Dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        custom(**options)


def test_a_criterion_has_a_docstring() -> None:
    with pytest.raises(PlanError, match="needs a name and a docstring"):
        gs.criterion("silent")(lambda weights: weights.sum(axis=1))


@pytest.mark.parametrize(
    "answer", [3.0, None, "text", [1.0, 2.0], [[1.0]] * 4, [1.0, 2.0, np.nan, 3.0]]
)
def test_a_criterion_that_gives_something_else(answer: Any) -> None:
    @gs.criterion("odd")
    def odd(weights: np.ndarray) -> Any:
        """Something else."""
        return answer

    with pytest.raises(PlanError, match="^w: odd has to give one finite number for each of 4"):
        scored(tiny(PLAIN), "odd")


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_criterion_says_where_it_is_from(name: str) -> None:
    assert "arXiv" in gs.criteria()[name].source, gs.criteria()[name].source


# ---------------------------------------------------------------------- what is chosen goes


@pytest.mark.tf
@pytest.mark.skipif(not DIGITS.is_file(), reason="there are no fixtures beside the tests")
@pytest.mark.parametrize("name", list(gs.criteria()))
def test_mask_equivalence_holds_for_every_criterion(name: str) -> None:
    graph = gs.load(str(DIGITS))
    plan = gs.plan(graph, criterion=name, ratio=0.3)
    assert plan.removed > 250
    assert gs.verify(graph, gs.apply(graph, plan), plan=plan).worst.relative < 1e-5

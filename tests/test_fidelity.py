"""What is measured of outputs: held against what numpy says of all values at once."""

from __future__ import annotations

import json
from typing import Any, List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphslim.errors import GraphslimError, VerifyError
from graphslim.ir import Port
from graphslim.measure.agreement import Agreement, columns_of, rows_of, surgery_verdict, verdict
from graphslim.measure.fidelity import Decision, Measures, OutputDifference, decision_of, difference
from graphslim.testing import from_text


def measured(
    pairs: List[Tuple[np.ndarray, np.ndarray]], decision: Optional[Decision] = None
) -> OutputDifference:
    """The measures of an output whose first axis is that of the examples, run by run."""
    measures = Measures("y", len(pairs), decision)
    for first, second in pairs:
        measures.add(first, second, len(first))
    return measures.result()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 1),
    shape=st.lists(st.integers(1, 5), max_size=3),
)
def test_runs_come_to_what_numpy_says_of_all(seed: int, sizes: List[int], shape: List[int]) -> None:
    rng = np.random.RandomState(seed)
    offset = rng.choice([0.0, 1e3])
    pairs = []
    for size in sizes:
        first = rng.normal(offset, 1, [size, *shape])
        pairs.append((first, first + rng.normal(0, 0.1, first.shape)))
    first, second = (np.concatenate(arrays) for arrays in zip(*pairs))
    found = measured(pairs)
    apart = np.abs(first - second)
    variation = np.sqrt(np.mean(np.square(first - first.mean(0))))
    assert found.absolute == apart.max() and found.span == first.max() - first.min()
    assert found.variation == pytest.approx(variation, rel=1e-9)
    error = np.sqrt(np.mean(np.square(apart))) / variation
    assert found.varies is bool(variation > 1e-3 * np.sqrt(np.mean(np.square(first))))
    assert found.error == (pytest.approx(error, rel=1e-9) if found.varies else None)
    allowed = int((1 - 0.99) * apart.size)
    assert found.within == pytest.approx(np.sort(apart.ravel())[::-1][allowed] / found.span)


def test_always_answering_the_mean_is_an_error_of_one() -> None:
    values = np.random.RandomState(0).normal(3, 2, (20, 4))
    assert measured([(values, np.broadcast_to(values.mean(0), values.shape))]).error == 1


def test_one_percent_of_large_differences_is_beside_the_percentile() -> None:
    first = np.arange(1000.0)[:, None]
    second = first + np.where(np.arange(1000) < 10, 500.0, 1.0)[:, None]
    found = measured([(first, second)])
    assert (found.within, found.relative) == (1 / 999, 500 / 999)
    second[10] += 499
    assert measured([(first, second)]).within == 500 / 999


def test_outputs_that_do_not_vary_are_told() -> None:
    same = np.full((3, 4), 7.0)
    flat = measured([(same, same), (same + 1e-4, same)])
    assert flat.varies is False and flat.error is None
    (caution,) = Agreement((flat,), 1e-4, "original", examples=6, random=True).cautions()
    assert "cannot tell what became of y" in str(caution) and "6 random inputs" in str(caution)
    assert "--data" in caution.hint
    varied = measured([(same, same), (same + 1, same)])
    assert varied.varies and not Agreement((varied,), 1e-4, "original").cautions()


def test_one_input_tells_nothing_of_how_outputs_vary() -> None:
    found = measured([(np.array([[0.0, 2.0]]), np.array([[0.0, 1.0]]))])
    assert found.varies is None and found.variation == 1
    assert found.error == pytest.approx(np.sqrt(0.5))


def test_outputs_whose_size_goes_by_the_input_vary_over_their_numbers() -> None:
    measures = Measures("boxes", 2)
    measures.add(np.zeros((3, 2)), np.zeros((3, 2)))
    measures.add(np.ones((1, 2)), np.ones((1, 2)))
    found = measures.result()
    assert found.varies is None and found.variation == pytest.approx(np.sqrt(3 / 16))


def test_classes_are_counted_and_never_subtracted() -> None:
    first, second = np.array([[3, 7, 7, 7]]), np.array([[3, 7, 7, 0]])
    found = measured([(first, second)], Decision("classes"))
    assert (found.agreement, found.relative, found.error) == (0.75, 0.25, None)
    assert difference("y", first, second).relative == 7 / 4, "without structure they are numbers"


def test_classes_are_judged_by_what_they_are_chosen_from() -> None:
    measures = Measures("label", 1, Decision("classes", source=Port("logits")))
    logits = np.array([[0.0, 1.0, 1.0 + 1e-9]])
    measures.add(np.array([2]), np.array([1]), 1, (logits, logits + [0, 1e-9, -1e-9]))
    found = measures.result()
    assert found.relative < 1e-8 and found.agreement == 0 and found.compared_at == "logits"
    assert Agreement((found,), 1e-4, "masked original").ok, "a near tie is no difference"


def test_pixels_have_an_intersection_over_union_per_class() -> None:
    first = np.array([[[0, 0], [1, 2]], [[1, 1], [1, 1]]])
    second = np.array([[[0, 1], [1, 2]], [[1, 1], [1, 0]]])
    found = measured([(first, second)], Decision("classes"))
    assert dict(found.ious) == {0: 1 / 3, 1: 4 / 6, 2: 1.0}
    assert found.agreement == 6 / 8 and found.mean_iou == pytest.approx((1 / 3 + 4 / 6 + 1) / 3)


def test_probabilities_and_masks_decide() -> None:
    chances = np.array([[0.7, 0.3], [0.4, 0.6]])
    assert measured([(chances, chances[::-1])], Decision("probabilities")).agreement == 0
    by_first = Decision("probabilities", axis=-2)
    assert by_first.decide(chances).tolist() == [0, 1]
    mask = np.zeros((1, 4, 4, 1))
    mask[0, :2] = 0.9
    other = mask.copy()
    other[0, 0] = 0.1
    found = measured([(mask, other)], Decision("mask"))
    assert found.ious == ((1, 0.5),) and found.agreement == 0.75


def test_rounding_is_no_difference_however_small_the_range() -> None:
    """As a sigmoid that hardly varies: one unit in the last place is a large share of its range."""
    first = (0.545 + np.linspace(0, 1e-4, 50)).astype(np.float32)
    rounded = difference("y", first, np.nextafter(first, np.float32(1)))
    assert rounded.relative > 1e-4
    agreement = Agreement((rounded,), 1e-4, "masked original")
    assert (
        agreement.ok
        and agreement.rounded
        and "or rounding is allowed" in surgery_verdict(agreement)
    )
    off = difference("z", first, first + np.float32(1e-6))
    both = Agreement((rounded._replace(relative=9.0), off), 1e-4, "masked original")
    assert not both.ok and not both.rounded and both.worst is off
    counts = np.arange(9)
    assert not Agreement((difference("n", counts, counts + 1),), 1e-4, "original").ok


def test_text_differs_or_not() -> None:
    words = np.array([b"cat", b"dog"], object)
    assert difference("y", words, words).relative == 0
    assert difference("y", words, words[::-1].copy()).relative == np.inf


def test_numbers_that_are_not_finite() -> None:
    good, bad = np.array([[1.0, 2.0]]), np.array([[1.0, np.nan]])
    found = measured([(good, bad)])
    tree = json.dumps(found.as_dict(), allow_nan=False)
    assert found.relative == np.inf and '"error": null' in tree
    assert Agreement((found,), 0.1, "original").far
    with pytest.raises(VerifyError, match="not finite in the original"):
        measured([(bad, good)])


# ------------------------------------------------------------------- decisions in graphs

HEAD = "x = Placeholder() dtype=float32 shape=<1,4,4,3>\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = Const() value=int32[]{-1}\ny = ArgMax(x, a)", Decision("classes", source=Port("x"))),
        (
            "a = Const() value=int32[]{3}\nm = ArgMax(x, a)\nc = Cast(m) SrcT=int64 DstT=int32\n"
            "y = ExpandDims(c, a)",
            Decision("classes", source=Port("x")),
        ),
        ("y = Softmax(x)", Decision("probabilities", -1)),
        (
            "s = Softmax(x)\np = Const() value=int32[4]{0 3 1 2}\ny = Transpose(s, p)",
            Decision("probabilities", -3),
        ),
        (
            "s = Softmax(x)\nt = Const() value=int32[2]{16 3}\ny = Reshape(s, t)",
            Decision("probabilities", -1),
        ),
        ("s = Softmax(x)\nt = Const() value=int32[2]{3 16}\ny = Reshape(s, t)", None),
        (
            "e = Exp(x)\na = Const() value=int32[]{-1}\ns = Sum(e, a) keep_dims=true\n"
            "y = RealDiv(e, s)",
            Decision("probabilities", -1),
        ),
        (
            "e = Exp(x)\na = Const() value=int32[]{1}\ns = Sum(e, a) keep_dims=true\n"
            "y = RealDiv(e, s)",
            None,
        ),
        ("s = Sigmoid(x)\ny = Identity(s)", Decision("mask")),
        (
            "s = Softmax(x)\nt = Const() value=int32[2]{9 9}\ny = ResizeBilinear(s, t)",
            Decision("probabilities", -1),
        ),
        (
            "a = Const() value=int32[]{-1}\nm = ArgMax(x, a)\ne = ExpandDims(m, a)\n"
            "t = Const() value=int32[2]{9 9}\ny = ResizeNearestNeighbor(e, t)",
            Decision("classes", source=Port("x")),
        ),
        (
            "a = Const() value=int32[]{-1}\nm = ArgMax(x, a)\ne = ExpandDims(m, a)\n"
            "t = Const() value=int32[2]{9 9}\ny = ResizeBilinear(e, t)",
            None,
        ),
        ("y = Relu(x)", None),
        ("s = Softmax(x)\ny = Mul(s, s)", None),
    ],
)
def test_decisions_are_found_by_structure(text: str, expected: Optional[Decision]) -> None:
    assert decision_of(from_text(HEAD + text), Port("y")) == expected


# ------------------------------------------------------------------- what is said


def agreed(**changes: Any) -> Agreement:
    output = OutputDifference("y", (1, 4), 0.2, 0.2, 1.0, error=0.05, within=0.1, variation=0.3)
    return Agreement((output._replace(**changes),), 1e-4, "original", examples=40)


def test_the_headline_warns_where_it_should() -> None:
    title, text = verdict(agreed())
    assert title == "The outputs changed little"
    assert text.startswith("y is off by 5 % of its variation") and text.endswith("over 40 inputs")
    title, text = verdict(agreed(error=4.63))
    assert title == "Caution: the outputs changed much" and "463 % of its variation" in text
    title, text = verdict(agreed(error=None, agreement=0.5))
    assert title.startswith("Caution") and "decides as before in 50 % of the cases" in text
    title, text = verdict(agreed(agreement=0.99, ious=((0, 0.5), (1, 0.7))))
    assert title.startswith("Caution")
    assert "99 % of the pixels as before (mean intersection over union 0.6)" in text
    assert verdict(agreed(absolute=0.0))[0] == "The outputs did not change"


def test_the_surgery_is_told_second_and_without_a_glossary() -> None:
    text = surgery_verdict(agreed(relative=2e-6)._replace(against="masked original"))
    assert text.startswith("Nothing else changed") and "masked" not in text
    assert "within 2e-06 of the range of y; 0.0001 is allowed" in text


def test_a_comparison_prints_as_a_sentence() -> None:
    assert str(agreed(absolute=0.0)) == "the outputs are the same, bit for bit, over 40 inputs"
    assert str(agreed()) == (
        "the outputs differ; the worst, y, by up to 20 % of its range over 40 inputs, "
        "and 0.01 % is allowed"
    )
    assert str(agreed(relative=2e-6)) == (
        "the outputs agree; the worst, y, within 0.0002 % of its range over 40 inputs"
    )


def test_tables_have_the_columns_that_outputs_need() -> None:
    assert len(columns_of(agreed())) == 4
    assert columns_of(agreed(agreement=0.5))[-1] == ">same decision"
    full = agreed(agreement=0.5, ious=((0, 0.25),), compared_at="logits", varies=False)
    assert columns_of(full)[-1] == ">mean IoU"
    assert rows_of(full) == [
        ["y (numbers of logits)", "does not vary", "10 %", "20 %", "50 %", "0.25"]
    ]


def test_unrelated_models_are_bad_input() -> None:
    from graphslim.measure.verify import verify

    first, second = (
        from_text(f"x = Placeholder() dtype=float32 shape=<1,{size}>\ny = Relu(x)")
        for size in (4, 5)
    )
    with pytest.raises(GraphslimError, match=r"its input x has the shape \[1,5\]") as caught:
        verify(first, second)
    assert not isinstance(caught.value, VerifyError), "exit status 1 is for a failed check"

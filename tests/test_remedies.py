"""Advice on pins: each kind of reason gets words of its own, and none is left without."""

from __future__ import annotations

import pytest
from tiny import groups, tiny

from graphslim.report.data import remedy

START = "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\n"


@pytest.mark.parametrize(
    "rest, advice",
    [
        ("y = Relu(a)\noutput y\n", "name it with --outputs"),
        ("y = MysteryOp(a)\nz = Relu(y)\noutput z\n", "@graphslim.channel_rule"),
        ("y = Softmax(a)\nz = Relu(y)\noutput z\n", "none can go unnoticed"),
        ("m = i32[1]{3}\ny = Mean(a, m)\nz = Relu(y)\noutput z\n", "none can go unnoticed"),
        ("y = While(a)\nz = Relu(y)\noutput z\n", "post-processing"),
        ("y = QuantizedRelu(a)\nz = Relu(y)\noutput z\n", "quantise the result"),
        ("d = input 4\ni = Cast(d)\ny = Reshape(a, i)\noutput y\n", "--input-shape"),
        (
            "o = i32[4]{0 3 1 2}\nt = Transpose(a, o)\ny = MaxPool(t)\nz = Relu(y)\noutput z\n",
            "as space or batch",
        ),
    ],
)
def test_a_pin_comes_with_advice(rest: str, advice: str) -> None:
    group = groups(tiny(START + rest))["a"]
    assert group.pinned_by is not None
    assert advice in remedy(group.pinned_by), group.pinned_by


def test_a_reason_without_words_of_its_own() -> None:
    assert remedy("of a rule that a user wrote").startswith("they stay as they are")

"""The activations and gates of block patterns, in every spelling in which frozen graphs have them.

Each function takes the pattern of its input and gives the pattern of its output.
"""

from __future__ import annotations

from typing import List, Optional

from graphslim.ir import Node
from graphslim.ir.families import ACTIVATIONS, FUSED_ACTIVATIONS, QUOTIENTS, SELECTS, SUMS
from graphslim.match.pattern import Ending, OneOf, Op, Param, Pattern
from graphslim.match.view import GraphView
from graphslim.ops import CHANNEL_RULES

ADD = tuple(sorted(SUMS))
MUL = ("Mul",)
DIV = tuple(sorted(QUOTIENTS))
_FUSED = frozenset([op for op in CHANNEL_RULES if op.startswith("_Fused")])
"""Ops that TensorFlow's optimizer makes of several."""


def fused_ops(node: Node) -> List[str]:
    """What a fused op does behind its convolution, product or batch norm; empty for any other."""
    if node.op == "_FusedBatchNormEx":
        return [node.text("activation_mode", "Identity")]
    listed = node.attrs.get("fused_ops") if node.op.startswith("_Fused") else None
    return [step.decode() if isinstance(step, bytes) else str(step) for step in listed or ()]


def fused_activation(node: Node) -> Optional[str]:
    """The activation that a fused op ends in, or None."""
    last = fused_ops(node)[-1:]
    return last[0] if last and last[0] in FUSED_ACTIVATIONS else None


def _ends_activated(matcher: GraphView, node: Node) -> Optional[str]:
    return None if fused_activation(node) else "it has no activation"


def _ends_in_sigmoid(matcher: GraphView, node: Node) -> Optional[str]:
    return None if fused_activation(node) == "Sigmoid" else "it has no sigmoid"


# ------------------------------------------------------------------ arithmetic


def _plus(x: Pattern, number: float) -> Pattern:
    return Op(ADD, (x, Param(number)), any_order=True)


def _times(x: Pattern, number: Optional[float] = None) -> Pattern:
    return Op(MUL, (x, Param(number)), any_order=True)


def _product(x: Pattern, y: Pattern) -> Pattern:
    return Op(MUL, (x, y), any_order=True)


def _over(x: Pattern, number: float) -> Pattern:
    """X by a number, as a quotient or as a product."""
    return OneOf(
        (_times(x, 1 / number), Op(DIV, (x, Param(number)))), text=f"{x.text} by {number:g}"
    )


def _halved_product(x: Pattern, y: Pattern) -> Pattern:
    """Half of x times y, the factors in any order."""
    return OneOf(
        (
            _product(_times(x, 0.5), y),
            _product(_times(y, 0.5), x),
            _times(_product(x, y), 0.5),
        ),
        text=f"half of {x.text} times {y.text}",
    )


def _negated(x: Pattern) -> Pattern:
    return OneOf((Op(("Neg",), (x,)), _times(x, -1)), text=f"minus {x.text}")


def _square(x: Pattern) -> Pattern:
    return OneOf((Op(("Square",), (x,)), Op(MUL, (x, x)), Op(("Pow",), (x, Param(2.0)))))


def _cube(x: Pattern) -> Pattern:
    return OneOf((Op(("Pow",), (x, Param(3.0))), _product(_square(x), x)))


# ------------------------------------------------------------------ clips and gates


def clip(x: Pattern, low: Optional[float] = None, high: Optional[float] = None) -> Pattern:
    """min(max(x, low), high), in any order and spelling; a bound that is None may be any."""

    def at_least(y: Pattern) -> Op:
        return Op(("Maximum",), (y, Param(low)), any_order=True)

    def at_most(y: Pattern) -> Op:
        return Op(("Minimum",), (y, Param(high)), any_order=True)

    spellings: List[Pattern] = [
        at_most(at_least(x)),
        at_least(at_most(x)),
        Op(("ClipByValue",), (x, Param(low), Param(high))),
    ]
    if not low:
        spellings.append(at_most(Op(("Relu",), (x,))))
        spellings.append(Op(("Relu",), (at_most(x),)))
    if (low, high) == (0, 6):
        spellings.insert(0, Op(("Relu6",), (x,)))
    bounds = [f"{bound:g}" if bound is not None else "any" for bound in (low, high)]
    return OneOf(spellings, text=f"{x.text} clipped to [{', '.join(bounds)}]")


def hard_sigmoid(x: Pattern) -> Pattern:
    """relu6(x + 3) / 6, by product or quotient; or 0.2 x + 0.5 clipped to [0, 1] (Keras)."""
    lines = OneOf(
        (_plus(_times(x, 0.2), 0.5), _plus(_over(x, 6), 0.5), _over(_plus(x, 3), 6)),
        text="0.2 x + 0.5",
    )
    return OneOf((_over(clip(_plus(x, 3), 0, 6), 6), clip(lines, 0, 1)), text="a hard sigmoid")


def _logistic(x: Pattern) -> Pattern:
    """A sigmoid, in one op or as 1 / (1 + exp(-x))."""
    below = _plus(Op(("Exp",), (_negated(x),)), 1)
    return OneOf(
        (
            Op(("Sigmoid",), (x,)),
            Op(DIV, (Param(1.0), below)),
            Op(("Reciprocal", "Inv"), (below,)),
            Ending(x, _ends_in_sigmoid, _FUSED),
        ),
        text="a sigmoid",
    )


def sigmoid(x: Pattern) -> Pattern:
    """A sigmoid or a hard sigmoid."""
    return OneOf((_logistic(x), hard_sigmoid(x)), text="a sigmoid")


# ------------------------------------------------------------------ activations


def swish(x: Pattern) -> Pattern:
    """X * sigmoid(b x), and the hard swish with its 1/6 on any factor."""
    gate = OneOf((_logistic(OneOf((x, _times(x)))), hard_sigmoid(x)))
    top = clip(_plus(x, 3), 0, 6)
    below = _plus(Op(("Exp",), (_negated(x),)), 1)
    return OneOf(
        (
            _product(gate, x),
            _product(top, _over(x, 6)),
            _over(_product(top, x), 6),
            Op(DIV, (x, below)),
        ),
        text="swish",
    )


def gelu(x: Pattern) -> Pattern:
    """X / 2 * (1 + erf(x / sqrt 2)), by erfc, or nearly so by tanh (Hendrycks and Gimpel 2016)."""
    root, slope, bend = 2**0.5, 0.7978845608, 0.044715
    above = _plus(Op(("Erf",), (_over(x, root),)), 1)
    below = OneOf((_over(_negated(x), root), _negated(_over(x, root)), _over(x, -root)))
    curve = OneOf(
        (
            _times(Op(ADD, (x, _times(_cube(x), bend)), any_order=True), slope),
            _times(_product(x, _plus(_times(_square(x), bend), 1)), slope),
            _product(_times(x, slope), _plus(_times(_square(x), bend), 1)),
        )
    )
    nearly = _plus(Op(("Tanh",), (curve,)), 1)
    gate = OneOf((above, Op(("Erfc",), (below,)), nearly), text="the gate of a gelu")
    return OneOf((_halved_product(x, gate),), text="gelu")


def mish(x: Pattern) -> Pattern:
    """X * tanh(softplus(x)) (Misra 2019, arXiv 1908.08681)."""
    grown = Op(("Exp",), (x,))
    soft = OneOf(
        (
            Op(("Softplus",), (x,)),
            Op(("Log1p",), (grown,)),
            Op(("Log",), (_plus(grown, 1),)),
        )
    )
    return OneOf((_product(Op(("Tanh",), (soft,)), x),), text="mish")


def prelu(x: Pattern) -> Pattern:
    """max(x, 0) + alpha min(x, 0), in parts."""
    zero = Param(0.0)
    above = OneOf((Op(("Relu",), (x,)), Op(("Maximum",), (x, zero), any_order=True)))
    below = OneOf(
        (
            Op(("Relu",), (_negated(x),)),
            Op(("Minimum",), (x, zero), any_order=True),
            Op(("Maximum",), (_negated(x), zero), any_order=True),
            Op(("Sub",), (x, Op(("Abs",), (x,)))),
        )
    )
    slope = _scaled(OneOf((below, _negated(below))))
    chosen = Op(SELECTS, (Op(("Greater", "GreaterEqual"), (x, zero)), x, _scaled(x)))
    return OneOf(
        (
            Op((*ADD, "Sub"), (above, slope), any_order=True),
            Op(("Maximum",), (_times(x), x), any_order=True),
            Op(ADD, (_times(x), _times(Op(("Abs",), (x,)))), any_order=True),
            chosen,
        ),
        text="prelu",
    )


def _scaled(x: Pattern) -> Pattern:
    """X times constants, once or twice, or by a constant."""
    once = OneOf((_times(x), Op(DIV, (x, Param()))))
    return OneOf((once, _times(once), Op(("Neg",), (once,))))


def act(x: Pattern) -> Pattern:
    """Any activation."""
    bound = Op(("Maximum", "Minimum"), (x, Param()), any_order=True)
    return OneOf(
        (
            Op(ACTIVATIONS | {"_UnaryOpsComposition"}, (x,)),
            Ending(x, _ends_activated, _FUSED),
            swish(x),
            prelu(x),
            clip(x),
            gelu(x),
            mish(x),
            hard_sigmoid(x),
            bound,
        ),
        text="an activation",
    )

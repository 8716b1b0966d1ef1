"""Why channels have to stay: reasons in words, each of a kind that knows what a user can do.

A rule pins channels with `op.pin(ids, why)`. Where `why` is a plain text, the channels simply
stay; where it is one of these kinds of text, the user is told what to do about it too.
"""

from __future__ import annotations

PAGE = "docs/extending.md"
"""Where rules for ops are explained."""
KEPT = "they stay as they are; the rest of the network is pruned around them"
"""What is said of a reason that is a plain text."""
SIZES_GIVEN = (
    "the sizes of all inputs are given, but an op before this one gives no shape that is known: "
    f"teach graphslim that op, one function under @graphslim.channel_rule ({PAGE}), or freeze the "
    "shape that it computes into the graph"
)
"""What is said of an `OpenSize` where no input has one."""


class Reason(str):
    """A reason that carries advice; the text itself completes "pinned: ..."."""

    advice = KEPT


class IsOutput(Reason):
    """The channels are those of an output of the graph."""

    advice = "outputs keep their shape; if you use another tensor than this, name it with --outputs"


class IsInput(Reason):
    """The channels are those of an input of the graph."""

    advice = "inputs keep their shape"


class WeightsMadeInRun(Reason):
    """Weights are computed from them each time that the graph runs, though only from constants."""

    advice = (
        "write the model with its weights computed and its variables and conditions resolved, "
        "`graphslim optimize MODEL -o OUT.pb`, and prune that"
    )


class WeightsMade(Reason):
    """Weights are computed from them, and the computation is not known."""

    advice = (
        "freeze the graph with the weights as they are computed, as one constant, or teach "
        f"graphslim to compute the op, one function under @graphslim.value_rule ({PAGE})"
    )


class UnknownOp(Reason):
    """An op without a channel rule reads them."""

    advice = (
        f"teach graphslim the op, one function under @graphslim.channel_rule ({PAGE}), or cut the "
        "graph before it with --outputs"
    )


class Unsaid(Reason):
    """The channel rule of an extension says nothing of them."""

    advice = (
        "let the rule hand their ids on, note that they are summed over (contract, sum_over), or "
        f"pin them for a reason of its own; what is tied alone is not seen to ({PAGE})"
    )


class Unfollowed(Reason):
    """They meet a tensor whose channels are not followed."""

    advice = (
        "an op before the tensor that they meet is one that graphslim does not follow, and may be "
        f"another reason in this list: teach graphslim that op ({PAGE}), and these may go too"
    )


class Opaque(Reason):
    """They enter a loop, a function or code, into which nobody can see from the graph."""

    advice = (
        "nothing to do if this is the model's own post-processing, which stays as it is; else "
        "freeze the graph with its control flow resolved, or cut it before this node, --outputs"
    )


class Quantised(Reason):
    """They are computed in integers."""

    advice = "prune the graph in floating point and quantise the result"


class OpenSize(Reason):
    """A size, a rank, an axis or a number is not known, which may be since an input is open."""

    advice = (
        "give the sizes that are open, --input-shape NAME=1,224,224,3; a shape that is fed when "
        "the graph runs has to be frozen into it"
    )


class ComputedSize(Reason):
    """Their number is computed with."""

    advice = "freeze the graph with a fixed input shape, so that its sizes become constants"


class AcrossChannels(Reason):
    """What is computed of one channel depends on the others at the same position."""

    advice = (
        "this op weighs the channels of one position against each other, so that none can go "
        "unnoticed; layers before and after it are pruned up to it"
    )


class InNorm(Reason):
    """They are normalised over, and may go once that is allowed."""

    advice = (
        "--through-norms lets them go: the norm then runs over the channels that stay, which "
        "changes its mean and length a little"
    )


class OtherAxis(Reason):
    """The axis is used as space, as batch or for other channels."""

    advice = "the graph uses this axis as space or batch; channels on it stay"

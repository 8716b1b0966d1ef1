"""What is known of ops: the rules that are registered for each, and what holds without a rule.

An op is made known by one function, registered with `@channel_rule`; without one it is a wall: it
pins every channel that reaches it. `@value_rule` and `@cost_rule` add what else is known of it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, TypeVar, Union

import numpy as np

from graphslim.channels.facts import Fact, fact, sizes_of
from graphslim.channels.reasons import Opaque, Reason, UnknownOp
from graphslim.channels.visit import OpVisit
from graphslim.errors import AnalysisError, GraphslimError
from graphslim.ir import Func, Graph, Node, Shape
from graphslim.ir.families import CALLS, CONDITIONALS, LOOP_OPS, OPAQUE_OPS, WHILE_LOOPS
from graphslim.ir.graph import rules_changed
from graphslim.support.importing import blaming, definition, is_built_in, named, place_of


class ValueVisit:
    """An op as a value rule sees it: what is known of its inputs before anything is fed.

    `op[i]` is what is known of input i, `len(op)` says how many inputs there are, and
    `op.node.attrs` holds the attributes. What is known is an array that can be broadcast to the
    tensor: of size 1 along axes over which it does not vary, as those of examples and pixels, NaN
    where a number is not known; or None where nothing is. Numbers are float64; constants of more
    than 65,536 elements, and those of integers, come in their own element type. They are not to be
    changed in place.

    A rule gives the same of the output, or a tuple with an entry for each of several outputs. What
    it gives has to hold for every input that could be fed: in doubt it is NaN, or None. Channels
    are removed, and constants folded, on the strength of it.

    Attributes:
        node: the op.
        values: what `op[i]` gives, in a list.
        facts, outs: the facts of the inputs and of the outputs: their shapes.
        zero_below: weights of a smaller magnitude count as zero; see `snap`.
    """

    def __init__(
        self,
        node: Node,
        values: Sequence[Optional[np.ndarray]],
        facts: Sequence[Fact],
        outs: Sequence[Fact],
        zero_below: float,
    ) -> None:
        self.node, self.values, self.facts, self.outs = node, values, facts, outs
        self.zero_below = zero_below

    def __getitem__(self, index: int) -> Optional[np.ndarray]:
        return self.values[index]

    def __len__(self) -> int:
        return len(self.values)

    def snap(self, weights: np.ndarray) -> np.ndarray:
        """Weights, float of any shape, with those that count as zero set to zero."""
        if self.zero_below <= 0:
            return weights
        small = np.abs(weights) < self.zero_below
        return np.where(small, 0, weights) if small.any() else weights


ChannelRule = Callable[[OpVisit], Union[Fact, Sequence[Fact]]]
ValueRule = Callable[[ValueVisit], Any]
CostRule = Callable[[Node, Sequence[Fact], Sequence[Fact]], Optional[int]]

CHANNEL_RULES: Dict[str, ChannelRule] = {}
VALUE_RULES: Dict[str, ValueRule] = {}
COST_RULES: Dict[str, CostRule] = {}
_ANALYSED = ("channel", "value", "cost")
"""The kinds of rules that analyses go by, which are kept with a graph; those of layouts are none,
and are imported when a graph has been analysed."""
STRUCTURAL: Set[str] = set()
"""Ops whose value rule only moves elements about, so that it can move their origins as well."""


Rule = TypeVar("Rule", bound=Callable[..., Any])


def channel_rule(*ops: str, replace: bool = False) -> Callable[[ChannelRule], ChannelRule]:
    """Registers what ops do to shapes and channel ids.

    Raises:
        AnalysisError: an op has a rule already and `replace` is not given.
    """
    return registering(CHANNEL_RULES, "channel", ops, replace)


def value_rule(
    *ops: str, structural: bool = False, replace: bool = False
) -> Callable[[ValueRule], ValueRule]:
    """Registers how ops compute on known values: a function from a `ValueVisit` to what is known.

    Args:
        *ops: their types.
        structural: whether they only move elements about, as a transposition does, so that a
            number of a shape can be followed through them to where it comes from.
        replace: take the place of a rule that is there.

    Raises:
        AnalysisError: an op has a rule already and `replace` is not given.
    """
    register = registering(VALUE_RULES, "value", ops, replace)
    if register in ops:
        return register  # the rule itself, which was refused: the decorator has no parentheses

    def registered(function: ValueRule) -> ValueRule:
        register(function)
        own = [op for op in ops if VALUE_RULES.get(op) is function]
        STRUCTURAL.difference_update(own)
        STRUCTURAL.update(own if structural else ())
        return function

    return registered


def cost_rule(*ops: str, replace: bool = False) -> Callable[[CostRule], CostRule]:
    """Registers how many multiply-accumulates ops take, for one example.

    The function gets the node, the facts of its inputs and those of its outputs, at the widths that
    are to be counted, and gives a whole number, or None where a size is open that it needs. It
    leaves out the first axis of the result, that of the examples; where this holds several parts of
    an example, as windows or positions, what it gives is taken times their number.

    Raises:
        AnalysisError: an op has a rule already and `replace` is not given.
    """
    return registering(COST_RULES, "cost", ops, replace)


def registering(
    table: Dict[str, Rule], kind: str, ops: Sequence[str], replace: bool
) -> Callable[[Rule], Rule]:
    """The decorator that puts a rule into a table, for all of some ops or for none of them.

    Without parentheses it gets the rule in place of ops, which is refused.
    """

    def register(function: Rule) -> Rule:
        with definition(function):
            if not ops or not all([isinstance(op, str) for op in ops]):
                raise AnalysisError(
                    "the decorator names no op", place_of(function), f'write @{kind}_rule("Op")'
                )
            for op in ops:
                if op in table and not replace:
                    raise AnalysisError(
                        f"this op has a {kind} rule already, of {place_of(table[op])}",
                        op,
                        "pass replace=True to the decorator, if yours is to take its place",
                    )
            table.update(dict.fromkeys(ops, function))
            if kind in _ANALYSED:
                rules_changed()
        return function

    decorator: Any = register
    return decorator(ops[0]) if ops and callable(ops[0]) else decorator


Result = TypeVar("Result")


def guarded(
    function: Callable[..., Result],
    graph: Graph,
    node: Node,
    *given: Any,
    rule: Optional[Callable[..., Any]],
) -> Result:
    """What `function(*given)` gives, which calls a rule for a node and checks what that gives.

    This is the one boundary around rules, which may raise anything where a node lacks inputs or has
    impossible attributes.

    Args:
        function: calls the rule. A check of what the rule gives raises TypeError or ValueError.
        graph, node: what the rule is asked about.
        *given: the arguments of `function`.
        rule: the rule at work; None where there is none.

    Raises:
        GraphslimError: what the rule raised, with file and node; of a rule that is not built in,
            the hint names the rule.
        AnalysisError: the rule failed in another way: inputs or attributes do not fit the op, or
            a rule that is not built in has a mistake.
    """
    try:
        return function(*given)
    except GraphslimError as error:
        if error.where not in (None, node.name):
            raise
        where, hint = f"{graph.name}: node {node.name}", error.hint
        if rule is not None and not is_built_in(rule):
            see = f"see {named('rule', rule, node.op)}"
            hint = f"{hint}; {see}" if hint else see
        raise type(error)(error.what, where, hint) from error
    except MemoryError:
        raise
    except Exception as error:
        where = f"{graph.name}: node {node.name}"
        if rule is not None and not is_built_in(rule):
            with blaming("rule", rule, where, AnalysisError, node.op):
                raise
        raise AnalysisError(
            f"the inputs or attributes of this {node.op} do not fit the op "
            f"({type(error).__name__}: {error})",
            where,
            "export the graph again; if TensorFlow runs it, report what --debug prints",
        ) from error


def cost_of(
    graph: Graph, node: Node, inputs: Sequence[Fact], outs: Sequence[Fact]
) -> Optional[int]:
    """What the cost rule of an op gives, which has to have one; None where a size is open.

    Raises:
        AnalysisError: the rule fails, or gives something else.
    """
    rule = COST_RULES[node.op]
    return guarded(_count, graph, node, rule, node, inputs, outs, rule=rule)


def _count(rule: CostRule, *given: Any) -> Optional[int]:
    count: Any = rule(*given)
    if count is None:
        return None
    if isinstance(count, (str, bytes)) or not 0 <= count < np.inf or count != int(count):
        raise ValueError(f"a cost rule gives a whole number of 0 or more, or None, not {count!r}")
    return int(count)


def value_outputs(graph: Graph, visit: ValueVisit) -> Sequence[Optional[np.ndarray]]:
    """What the value rule of an op gives for each of its outputs; it has to have one.

    A value has as many axes as the output, if that is known: axes of size 1 are put before it.

    Raises:
        AnalysisError: the rule fails, since the node is damaged; or one that is not built in gives
            what cannot be a value of the output.
    """
    rule = VALUE_RULES[visit.node.op]
    return guarded(_values, graph, visit.node, rule, visit, rule=rule)


def _values(rule: ValueRule, visit: ValueVisit) -> List[Optional[np.ndarray]]:
    result, is_own = rule(visit), not is_built_in(rule)
    given = result if isinstance(result, tuple) else (result,)
    values = [None if value is None else np.asarray(value) for value in given]
    if is_own and visit.outs and len(values) > len(visit.outs):
        raise ValueError(f"a tuple of {len(values)} for {len(visit.outs)} outputs")
    for place, (value, out) in enumerate(zip(values, visit.outs)):
        if value is None:
            continue
        if is_own and value.dtype.kind not in "fiub":
            raise TypeError("a value rule gives an array of numbers, None, or a tuple of these")
        if out.shape is None:
            # The built-in rules give all axes; of a rule of others it is open which ones.
            values[place] = None if is_own else value
        elif is_own and not _fits(value, out.shape):
            raise ValueError(f"a value of shape {value.shape} for an output of shape {out.shape}")
        elif value.ndim < len(out.shape):
            values[place] = value.reshape((1,) * (len(out.shape) - value.ndim) + value.shape)
    return values


def _fits(value: np.ndarray, shape: Sequence[Optional[int]]) -> bool:
    """Whether a value can be broadcast to a shape, of which sizes may be open."""
    pairs = zip(value.shape[::-1], shape[::-1])
    alike = [size == 1 or whole in (None, size) for size, whole in pairs]
    return value.ndim <= len(shape) and all(alike)


# --- Ops without a channel rule.

_LOOP = Opaque("it enters a While loop, which is left as it is")
_CHOICE = Opaque("it enters an If or Case, whose branches are functions and are left as they are")
_FUNCTION = Opaque("it enters a function that could not be inlined")
_ARRAY = Opaque("it is stored in a list or array of tensors, which is not followed")
_BOXES = Opaque("boxes are chosen from it (non-maximum suppression)")
_PYTHON = Opaque("it enters Python code, which nobody can see into")

_WALLS = {
    **dict.fromkeys(WHILE_LOOPS | LOOP_OPS | {"_While", "For"}, _LOOP),
    **dict.fromkeys(CONDITIONALS | {"_If"}, _CHOICE),
    **dict.fromkeys(CALLS | {"RemoteCall"}, _FUNCTION),
    **dict.fromkeys(OPAQUE_OPS, _PYTHON),
    "CombinedNonMaxSuppression": _BOXES,
    "GenerateBoundingBoxProposals": _BOXES,
    "TRTEngineOp": Opaque(
        "it is inside an engine compiled by TensorRT; prune the graph before TensorRT"
    ),
    "XlaLaunch": Opaque("it is inside code compiled by XLA; prune the graph before XLA"),
}
_FAMILIES = {
    "NonMaxSuppression": _BOXES,
    "TensorArray": _ARRAY,
    "TensorList": _ARRAY,
    "Stack": _ARRAY,
}
"""Beginnings of the names of ops that come in many versions."""

_SHAPES: Dict[str, Sequence[Tuple[Optional[int], ...]]] = {
    "NonMaxSuppression": ((None,),),
    "NonMaxSuppressionV2": ((None,),),
    "NonMaxSuppressionV3": ((None,),),
    "NonMaxSuppressionWithOverlaps": ((None,),),
    "NonMaxSuppressionV4": ((None,), ()),
    "NonMaxSuppressionV5": ((None,), (None,), ()),
    "CombinedNonMaxSuppression": ((None, None, 4), (None, None), (None, None), (None,)),
}
"""What ops give that have no rule, whatever they read."""


def wall(node: Node) -> Reason:
    """Why an op without a channel rule pins what reaches it; completes "pinned: ..."."""
    reason = _WALLS.get(node.op)
    if reason is None:
        texts = [text for start, text in _FAMILIES.items() if node.op.startswith(start)]
        return texts[0] if texts else UnknownOp(f"graphslim has no rule for the op {node.op}")
    function = node.attrs.get("f")
    if reason is _FUNCTION and isinstance(function, Func):
        return Opaque(f"{reason}: {function.name}")
    return reason


def stated(node: Node, inputs: Sequence[Fact]) -> List[Fact]:
    """The shapes that an op without a channel rule states for its outputs; their axes have no ids.

    Functional control flow and old exporters state them all, arrays of tensors those of an
    element; of some ops the rank is known. `inputs` is what the op reads.
    """
    for key in ("_output_shapes", "output_shapes"):
        shapes = node.attrs.get(key)
        if isinstance(shapes, list) and all(isinstance(shape, Shape) for shape in shapes):
            return [fact(shape.dims) for shape in shapes]
    known = _SHAPES.get(node.op)
    if known is not None:
        return [fact(dims) for dims in known]
    element = node.attrs.get("element_shape")
    if node.op.startswith("TensorArrayGather") and isinstance(element, Shape):
        return [fact(None if element.dims is None else (None, *element.dims))]
    if node.op == "TensorListStack" and len(inputs) > 1 and inputs[1].value is not None:
        return [fact((None, *sizes_of(inputs[1].value)))]
    return []

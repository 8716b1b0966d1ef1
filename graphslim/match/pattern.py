"""Pattern values, and the registry of block patterns.

A pattern describes a tensor by the op that made it, back to named inputs. The vocabulary
(`match.vocabulary`) builds them with functions that read like layers, so that a block's pattern
reads like the block.
"""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from graphslim.errors import GraphslimError, PatternError
from graphslim.ir.families import PADDED_CONVOLUTIONS
from graphslim.support.importing import blaming, definition, place_of

Condition = Callable[[Any, Any], Optional[str]]
"""Given the matcher and the node, says why the node does not do, or None."""
MatchCondition = Callable[[Any, Any], Optional[str]]
"""Given the matcher and the whole match, says why it does not do, or None."""


def told(condition: Callable[..., Any], where: str, *given: Any) -> Optional[str]:
    """What a condition says of a node or a match: why it does not do, or None.

    Args:
        condition: a `Condition` or `MatchCondition`.
        where: the node, or the kind of block.
        *given: the condition's arguments.

    Raises:
        PatternError: it fails, or gives something else.
    """
    try:
        reason = condition(*given)
        if reason is None or isinstance(reason, str):
            return reason
        raise TypeError(f"it gives {reason!r}, not None or a text that says why not")
    except Exception:
        with blaming("condition", condition, where, PatternError):
            raise
        raise


class Pattern:
    """A description of a tensor. One object used twice stands for one tensor.

    Attributes:
        text: what to call it in messages.
        heads: the ops that may have made the tensor, None where it may be any.
    """

    text = "anything"
    heads: Optional[FrozenSet[str]] = None

    def ops(self) -> Optional[FrozenSet[str]]:
        """The ops that a match may go through, None where they may be any."""
        if "_ops" not in self.__dict__:
            self._ops = self._find_ops()
        return self._ops

    def _find_ops(self) -> Optional[FrozenSet[str]]:
        ops_named: Set[str] = set()
        for part in _parts(self):
            if isinstance(part, Op):
                ops_named |= part.types
            elif isinstance(part, (Chain, Ending)):
                ops = part.through if isinstance(part, Chain) else part.heads
                if ops is None:
                    return None
                ops_named |= ops
        return frozenset(ops_named)


class Var(Pattern):
    """Any tensor; `name` makes its port part of the match."""

    def __init__(self, name: str) -> None:
        self.name = self.text = name


class Param(Pattern):
    """A tensor computed from constants alone; `near` asks for a single number close to it."""

    def __init__(self, near: Optional[float] = None) -> None:
        self.near = near
        self.text = "constants" if near is None else f"the constant {near:g}"


class Op(Pattern):
    """The first output of a node of one of some types.

    Args:
        types: the op types, or the only one.
        inputs: patterns of its first data inputs; further inputs may be anything.
        where: conditions on the node.
        name: the node's name in the match.
        any_order: whether the first two inputs may be swapped.
        text: what to call it in messages; by default its types.
    """

    def __init__(
        self,
        types: Iterable[str],
        inputs: Iterable[Pattern] = (),
        where: Iterable[Condition] = (),
        name: Optional[str] = None,
        any_order: bool = False,
        text: Optional[str] = None,
    ) -> None:
        self.types = _ops(types)
        self.heads = self.types
        self.inputs: Tuple[Pattern, ...] = tuple(inputs)
        self.where: Tuple[Condition, ...] = tuple(where)
        self.name, self.any_order = name, any_order
        # The ops that TensorFlow's optimizer makes need no mention beside those that it fuses.
        fused = {op for op in self.types if op.startswith("_")}.union(PADDED_CONVOLUTIONS)
        types_text = " or ".join(sorted(self.types - fused))
        self.text = text or (f"{name} ({types_text})" if name else types_text)


class OneOf(Pattern):
    """The first alternative that fits; if the pattern around it then fails, the next alternative.

    A failed match says that `text` was wanted. Without a text it says what each alternative
    wanted, above all the last.
    """

    def __init__(self, alternatives: Iterable[Pattern], text: str = "") -> None:
        self.alternatives: Tuple[Pattern, ...] = tuple(alternatives)
        self.text = text
        self.heads = _union([alternative.heads for alternative in self.alternatives])


class Chain(Pattern):
    """`inner`, followed by any number of steps; a step names the input to go back by.

    `through` are the ops that a step may go back by, None where they may be any.
    """

    def __init__(
        self,
        inner: Pattern,
        step: Callable[[Any, Any], Optional[int]],
        text: str,
        through: Optional[Iterable[str]] = None,
    ) -> None:
        self.inner, self.step, self.text = inner, step, text
        self.through = None if through is None else _ops(through)
        self.heads = _union([inner.heads, self.through])


class Ending(Pattern):
    """`inner`, where the op that made it meets a condition; `heads` are the ops that may."""

    def __init__(
        self, inner: Pattern, condition: Condition, heads: Optional[Iterable[str]] = None
    ) -> None:
        self.inner, self.condition, self.text = inner, condition, inner.text
        self.heads = None if heads is None else _ops(heads)


def _ops(names: Iterable[str]) -> FrozenSet[str]:
    """A set of ops, of which one alone may be given as it is."""
    return frozenset([names] if isinstance(names, str) else names)


def _union(heads: Iterable[Optional[FrozenSet[str]]]) -> Optional[FrozenSet[str]]:
    known = list(heads)
    return None if None in known else frozenset().union(*[ops for ops in known if ops is not None])


class BlockPattern(NamedTuple):
    """A registered block pattern.

    Attributes:
        kind: its name.
        root: the pattern of the block's last op.
        channels_of: the name, in the pattern, of the scoring layer.
        where: conditions on the whole match.
        at: module (or name of the file) and line of its declaration.
    """

    kind: str
    root: Op
    channels_of: str
    where: Tuple[MatchCondition, ...]
    at: str


PATTERNS: Dict[str, BlockPattern] = {}
REFUSED: Set[str] = set()
"""Kinds of blocks whose pattern was refused, which has been told."""


def block_pattern(
    kind: str, channels_of: str, where: Iterable[MatchCondition] = ()
) -> Callable[[Callable[[Any], Pattern]], Callable[[Any], Pattern]]:
    """Declares a kind of block.

    The decorated function takes a `Var`, the block's input, and gives the pattern of its last op.

    Args:
        kind: the block's name, as `inspect` prints it.
        channels_of: name of the op whose output channels are the block's own.
        where: conditions on the whole match, for what is not in the tensors' way.

    Raises:
        PatternError: the kind is taken, or the pattern does not end in an op, or names none so.
    """

    def register(function: Callable[[Any], Pattern]) -> Callable[[Any], Pattern]:
        REFUSED.add(kind)
        with definition(function):
            root = _root(kind, function)
            names, variables = names_in(root)
            if channels_of not in names:
                raise PatternError(f"no op is named {channels_of!r}", kind)
            if "x" not in variables:
                raise PatternError("the pattern never comes to its input", kind, "use the argument")
            PATTERNS[kind] = BlockPattern(kind, root, channels_of, tuple(where), place_of(function))
            REFUSED.discard(kind)
        return function

    return register


def _root(kind: str, function: Callable[[Any], Pattern]) -> Op:
    """The last op of the block that a function declares.

    Raises:
        PatternError: the kind is taken, the function fails, or gives something else than an op.
    """
    if kind in PATTERNS:
        raise PatternError(
            f"a block pattern of that name is there already, of {PATTERNS[kind].at}",
            kind,
            "give yours another",
        )
    try:
        root = function(Var("x"))
    except GraphslimError:
        raise
    except Exception as error:  # a user's pattern may raise anything
        raise PatternError(
            f"the function that declares it fails: {type(error).__name__}: {error}", kind
        ) from error
    if not isinstance(root, Op):
        raise PatternError("a block pattern has to end in one op", kind)
    return root


def names_in(pattern: Pattern) -> Tuple[List[str], List[str]]:
    """The names of ops and of variables that occur in a pattern."""
    parts = list(_parts(pattern))
    ops = [part.name for part in parts if isinstance(part, Op) and part.name]
    return ops, [part.name for part in parts if isinstance(part, Var)]


def _parts(pattern: Pattern) -> Iterator[Pattern]:
    """A pattern and all that it is made of, each once."""
    seen = set()
    waiting: List[Pattern] = [pattern]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, Op):
            waiting.extend(part.inputs)
        elif isinstance(part, OneOf):
            waiting.extend(part.alternatives)
        elif isinstance(part, (Chain, Ending)):
            waiting.append(part.inner)


class Narrowing:
    """Patterns without what no tensor of one graph can match, so that nothing searches for it.

    Args:
        ops: the ops of the graph.
        reads: whether some node of an op reads a constant that is near a number.
    """

    def __init__(self, ops: FrozenSet[str], reads: Callable[[str, float], bool]) -> None:
        self._ops, self._reads = ops, reads
        self._done: Dict[int, Tuple[Pattern, Optional[Pattern]]] = {}

    def __call__(self, pattern: Pattern) -> Optional[Pattern]:
        """What is left of a pattern; None where nothing can match it.

        Parts that are one object stay one, since they stand for one tensor.
        """
        # The pattern is kept with the answer, so that no other one can take its id.
        if id(pattern) not in self._done:
            self._done[id(pattern)] = pattern, self._narrowed(pattern)
        return self._done[id(pattern)][1]

    def _narrowed(self, pattern: Pattern) -> Optional[Pattern]:
        if pattern.heads is not None and self._ops.isdisjoint(pattern.heads):
            return None
        if isinstance(pattern, Op):
            types = pattern.types & self._ops
            for part in pattern.inputs:
                if isinstance(part, Param) and part.near is not None:
                    types = frozenset([op for op in types if self._reads(op, part.near)])
            inputs = self._all(pattern.inputs) if types else None
            return None if inputs is None else _with(pattern, types, types=types, inputs=inputs)
        if isinstance(pattern, OneOf):
            every = [self(alternative) for alternative in pattern.alternatives]
            parts = [part for part in every if part is not None]
            heads = _union([part.heads for part in parts])
            return _with(pattern, heads, alternatives=parts) if parts else None
        if isinstance(pattern, (Chain, Ending)):
            inner = self(pattern.inner)
            if inner is None:
                return None
            heads = pattern.heads
            if isinstance(pattern, Chain):
                heads = _union([inner.heads, pattern.through])
            return _with(pattern, heads, inner=inner)
        return pattern

    def _all(self, patterns: Iterable[Pattern]) -> Optional[Tuple[Pattern, ...]]:
        """What is left of several patterns, None where nothing can match one of them."""
        left = []
        for pattern in patterns:
            part = self(pattern)
            if part is None:
                return None
            left.append(part)
        return tuple(left)


def _with(pattern: Pattern, heads: Optional[FrozenSet[str]], **changes: Any) -> Pattern:
    """A pattern with other parts."""
    changed = object.__new__(type(pattern))
    changed.__dict__.update(pattern.__dict__, heads=heads, **changes)
    return changed

"""Every exception that graphslim raises on purpose."""

from __future__ import annotations

from typing import Optional

from graphslim.words import elided, visible

_LONGEST = {"where": 200, "what": 400, "hint": 500}
"""Characters of each part of a message that are shown; names from a file may be of any length."""


class GraphslimError(Exception):
    """Bad input or an impossible wish, told as what, where and what to do.

    Args:
        what: the fact, in one clause.
        where: the file, node or option that it is about.
        hint: what the reader can do about it.

    The attributes hold these as they were given. The text is one line of what can be printed: of a
    long part the middle is left out, and control characters are escaped.
    """

    def __init__(self, what: str, where: Optional[str] = None, hint: Optional[str] = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        place, fact, remedy = [
            elided(visible(text), _LONGEST[name]) if text else ""
            for name, text in (("where", where), ("what", what), ("hint", hint))
        ]
        text = f"{place}: {fact}" if place else fact
        super().__init__(f"{text} ({remedy})" if remedy else text)


class LoadError(GraphslimError):
    """A model that cannot be read."""


class IRError(GraphslimError):
    """A graph that breaks an invariant of the IR, or a forbidden change to one."""


class AnalysisError(GraphslimError):
    """A graph whose tensors contradict each other, or an op rule that is wrong."""


class PatternError(GraphslimError):
    """A block pattern that is badly declared."""


class PlanError(GraphslimError):
    """A plan that does not fit the graph, or a selection that cannot be met."""


class PassError(GraphslimError):
    """An unknown pass, a pass in a wrong place, or one that reports untruthfully."""


class EmitError(GraphslimError):
    """A graph that cannot be written."""


class RuntimeUnavailable(GraphslimError):
    """TensorFlow is needed and is not there."""


class VerifyError(GraphslimError):
    """Two graphs that should compute the same and do not."""

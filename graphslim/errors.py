"""Every exception that graphslim raises on purpose."""

from __future__ import annotations

import re
from typing import Dict, Match, Optional

_LONGEST = {"where": 200, "what": 400, "hint": 500}
"""Characters of each part of a message that are shown; names from a file may be of any length."""

KEYWORDS: Dict[str, str] = {
    **{
        name: name.replace("-", "_")
        for name in (
            *(
                "inputs",
                "outputs",
                "signature",
                "custom-objects",
                "meta",
                "inference-meta",
                "averages",
            ),
            *("seed", "data", "batch", "tolerance", "runs", "warmup", "for-tf"),
            *("quantize", "io"),
            *("rounds", "state"),
            *("labels", "metric", "ratios", "stop-at"),
        )
    },
    **{
        name: f"{name.replace('-', '_')}=True"
        for name in ("force", "fold", "allow-unconverged", "random-calibration", "select-tf-ops")
    },
    "input-shape": "input_shapes",
    "tag": "tags",
    "no-meta": "write_meta=False",
    "workers": "executor",
}
"""What the library calls the options of the command line; those that it has not are left out.

What a selection declares (`plans.options`) joins them.
"""
_OPTION = re.compile(
    r"(?<![\w-])--(?:(input-shape) ([^\s=]+)=((?:\d+|\?|\.{3})(?:,(?:\d+|\?))*)"
    r"|(criterion) (\w+)|([a-z][a-z-]*[a-z])(?: (\d[\d.e-]*\d|\d))?)(?![\w-])"
)
"""An option, and the value behind it where that is a number, a shape or a criterion."""


def in_library_words(text: str) -> str:
    """A text that names command-line options, with the library's keyword arguments instead.

    What stands in backticks is a command to be run, and stays.
    """
    parts = text.split("`")
    parts[::2] = [_OPTION.sub(_keyword, part) for part in parts[::2]]
    return "`".join(parts)


def _keyword(match: Match[str]) -> str:
    name, sizes, criterion, other, number = match.group(2, 3, 5, 6, 7)
    if name:
        shape = sizes.replace(",", ", ").replace("?", "None")
        return f'input_shapes={{"{name}": [{shape}]}}'
    if criterion:
        return f'criterion="{criterion}"'
    if other not in KEYWORDS:
        return match.group()
    return KEYWORDS[other] + ("" if number is None else f"={number}")


class GraphslimError(Exception):
    """Bad input or an impossible wish, told as what, where and what to do.

    The three name options as the command line spells them (`--macs 0.5`), and so does `told`; the
    text of the exception has the library's keyword arguments instead (`macs=0.5`).

    Args:
        what: the fact, in one clause.
        where: the file, node or option that it is about.
        hint: what the reader can do about it.

    The attributes hold these as they were given. The text is one line of what can be printed: of a
    long part the middle is left out, and control characters are escaped.
    """

    def __init__(self, what: str, where: Optional[str] = None, hint: Optional[str] = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(in_library_words(self.told))

    @property
    def told(self) -> str:
        """The whole message for a user of the command line; long parts are elided."""
        place, fact, remedy = [
            elided(visible(text), _LONGEST[name]) if text else ""
            for name, text in (("where", self.where), ("what", self.what), ("hint", self.hint))
        ]
        text = f"{place}: {fact}" if place else fact
        return f"{text} ({remedy})" if remedy else text


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
    """TensorFlow, or another runtime, is needed and is not there."""


class VerifyError(GraphslimError):
    """Two graphs that should compute the same and do not."""


def visible(text: str, keep: str = "") -> str:
    """A text whose control characters are escaped: a name must not move a terminal's cursor.

    Args:
        text: any text.
        keep: characters that stay as they are, such as line ends.
    """
    if text.isprintable():
        return text
    return "".join(
        [
            char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
            for char in text
        ]
    )


def elided(text: str, longest: int) -> str:
    """A text of so many characters at most; of a longer one the middle is left out."""
    if len(text) <= longest:
        return text
    gap = " ... "
    head = (longest - len(gap)) // 2
    return text[:head] + gap + text[len(text) - (longest - len(gap) - head) :]

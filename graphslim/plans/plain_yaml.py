"""Reads YAML of plain data: mappings, lists, texts, numbers, true, false and null.

YAML can do more than settings need: dates, references by which a short text stands for a huge
tree, numbers to the base of sixty. Of PyYAML's reader this keeps what JSON has too.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Tuple

import yaml

from graphslim.errors import PlanError
from graphslim.support.reading import DEEPEST, LONGEST_NUMBER, require_shallow

_TAGS = ("null", "bool", "int", "float", "str", "seq", "map")
_INTEGER = re.compile(rf"[-+]?[0-9]{{1,{LONGEST_NUMBER}}}$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?$")


def parse_yaml(text: str, where: str, hint: str) -> Any:
    """The tree of a YAML text.

    Args:
        text: the YAML, one document.
        where: what messages call it.
        hint: what to do about one that is none.

    Raises:
        PlanError: it is no YAML, or of a kind that is not read.
    """
    try:
        tree = yaml.load(text, _Reader)
        require_shallow(tree)
        return tree
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise PlanError(f"not YAML{line}: {error.problem or error.context}", where, hint) from None
    except Exception as error:  # PyYAML's constructors raise whatever a bad value leads them to
        raise PlanError(f"not YAML: {' '.join(str(error).split())}", where, hint) from None


class _Reader(yaml.SafeLoader):
    """PyYAML's reader, without references, and with the types of JSON alone."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Begins a list or mapping in brackets; deep ones would take time by their depth squared.

        Raises:
            yaml.MarkedYAMLError: it is too deep.
        """
        if self.flow_level >= DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {DEEPEST} levels", problem_mark=self.get_mark()
            )
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node; none that stands for another one.

        Raises:
            yaml.MarkedYAMLError: it does.
        """
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"the reference *{event.anchor}; write it out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Dict[Any, Any]:
        """A dict, of a mapping that has no key twice.

        Raises:
            yaml.MarkedYAMLError: it has.
        """
        tree: Dict[Any, Any] = super().construct_mapping(node, deep)
        if len(tree) < len(node.value):
            raise yaml.MarkedYAMLError(problem="a key is there twice", problem_mark=node.start_mark)
        return tree


def _number(loader: _Reader, node: Any) -> Any:
    """An int or float as Python reads it, where it looks like one."""
    text = loader.construct_scalar(node)
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    raise yaml.MarkedYAMLError(problem=f"no number: {text[:40]}", problem_mark=node.start_mark)


def _resolvers() -> Dict[Any, List[Tuple[str, Any]]]:
    """By first character, which tag a bare word has: PyYAML's null and bool, and our numbers."""
    kept = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:bool")
    return {
        first: [(tag, pattern) for tag, pattern in known if tag in kept]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Reader.yaml_implicit_resolvers = _resolvers()
for _tag, _pattern in (("int", _INTEGER), ("float", _FLOAT)):
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list("-+.0123456789"))
_Reader.yaml_constructors = {
    tag: function
    for tag, function in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _TAGS
}
for _tag in ("int", "float"):
    _Reader.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)

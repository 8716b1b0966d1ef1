"""What there is to say of sample inputs: how many, how they became numbers, what was left out."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from graphslim.feeds import Preprocessing
from graphslim.support.text import plural


class About(NamedTuple):
    """What a graph is fed, for people, for `--json` and for the settings of plans.

    Attributes:
        kind: `random`, `arrays`, `images`, or `files` that the graph decodes itself.
        where: the path, or what else the data came from.
        examples: how many there are.
        digest: gives the SHA-256 of the contents of the files, or of the arrays, which takes a
            while; None for random inputs.
        shapes: by input, the shape in one run.
        sizes: how many different sizes images have.
        preprocessing: what is done to images.
        made_for: for random inputs, the range of their numbers, and what tells it.
        switches: inputs that tell training from inference, and what they are fed.
        cautions: what was left out, one line each.
    """

    kind: str
    where: str
    examples: int
    digest: Optional[Callable[[], str]] = None
    shapes: Tuple[Tuple[str, Tuple[int, ...]], ...] = ()
    sizes: int = 0
    preprocessing: Optional[Preprocessing] = None
    made_for: str = ""
    switches: Tuple[Tuple[str, Union[bool, float]], ...] = ()
    cautions: Tuple[str, ...] = ()

    def lines(self) -> List[str]:
        """What to print before the data are used."""
        return [
            f"data: {self._summary()}",
            *[switch_line(name, value) for name, value in self.switches],
            *[f"caution: {text}" for text in self.cautions],
        ]

    def _summary(self) -> str:
        shapes = ", ".join([f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes])
        if self.kind == "images":
            of_sizes = "" if self.sizes == 1 else f" of {self.sizes} sizes"
            images = plural(self.examples, "image")
            return f"{images}{of_sizes} from {self.where}, {self.preprocessing}"
        if self.kind == "files":
            return f"{plural(self.examples, 'file')} from {self.where}, which the graph decodes"
        if self.kind == "arrays":
            examples = plural(self.examples, "example")
            return f"{examples} from {self.where} as they are ({shapes or 'no shape'} in one run)"
        return f"{plural(self.examples, 'random input')} ({shapes}), {self.made_for}"

    def as_dict(self) -> Dict[str, Any]:
        """What makes the data these, wherever they lie; for `--json` and the settings of plans."""
        tree: Dict[str, Any] = {
            "kind": self.kind,
            "examples": self.examples,
            "sha256": None if self.digest is None else self.digest(),
        }
        if self.preprocessing is not None:
            tree["preprocessing"] = self.preprocessing.as_dict()
        if self.switches:
            tree["switches"] = dict(self.switches)
        return tree


def switch_line(name: str, value: Union[bool, float]) -> str:
    """What to say of an input that tells training from inference."""
    why = "inference" if isinstance(value, bool) else "dropout lets everything through"
    return f"input {name} is fed with {value} ({why})"

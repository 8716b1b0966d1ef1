"""What a network loses as single groups lose channels: measured curves, and the file of them.

The file holds JSON, one tree in a line. The first line says what was measured, the others are one
finished measurement each, in the order in which these finished. A process that is killed leaves at
most its last line unfinished, which readers leave out.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.errors import EmitError, PlanError
from graphslim.support.reading import parse_json, read_bytes
from graphslim.support.text import is_count, is_finite, meant
from graphslim.support.writing import check_target, replacing

FORMAT, VERSION = "graphslim-sensitivity", 1
_OURS = "give a file that `graphslim sensitivity` wrote"
SQUARES = ("error",)
"""Metrics whose squares add up over groups: the errors of two groups are hardly correlated."""
_KINDS = {"repaired": bool, "seed": int, "images": int}
"""The types of fields of `About` that are no texts."""
_MATTERS = ("sha256", "criterion", "metric", "repaired", "seed", "data", "labels")
"""Fields of `About` that change what is measured."""


class About(NamedTuple):
    """What was measured.

    Attributes:
        model: the name of the model's file.
        sha256: the digest of the model's file.
        criterion: which channels of a group go first.
        metric: what the loss is: `error`, `agreement`, `iou`, `accuracy`, or a function's name.
        repaired: whether the layers that read the channels were fitted before measuring.
        seed: of the order of the images, and of the criterion.
        data: the SHA-256 of the images.
        labels: the SHA-256 of the labels; empty without any.
        images: how many images the loss was measured on.
    """

    model: str
    sha256: str
    criterion: str
    metric: str
    repaired: bool
    seed: int
    data: str
    labels: str
    images: int

    @property
    def adds_in_squares(self) -> bool:
        """Whether squares of losses add up over groups, rather than the losses."""
        return self.metric in SQUARES

    def difference(self, other: About) -> Optional[str]:
        """A clause about the first thing in which another measurement differs; None if none."""
        for name in _MATTERS:
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                return _DIFFERS.get(name, f"its {name} is {others!r}, not {mine!r}")
        return None


_DIFFERS = {
    "sha256": "is of another model",
    "data": "was measured on other images",
    "labels": "was measured with other labels",
}


class Loss(NamedTuple):
    """One measurement.

    Attributes:
        group: the id of the group.
        channels: how many channels the group has.
        removed: how many of them were removed, the least important ones first.
        loss: what the network lost: for `error` the mean over outputs of the error as a share of
            the variation; else by how much the metric is worse than the original's.
        seconds: what the measurement took.
    """

    group: str
    channels: int
    removed: int
    loss: float
    seconds: float = 0.0


class Curve(NamedTuple):
    """The losses of one group.

    Attributes:
        channels: how many channels the group has.
        removed: how many were removed, ascending, 0 first; int64 of shape (n,).
        losses: what the network lost; float64 of shape (n,).
    """

    channels: int
    removed: np.ndarray
    losses: np.ndarray


class Curves(NamedTuple):
    """Measured curves.

    Attributes:
        about: what was measured.
        losses: the measurements, each group and number of channels once.
    """

    about: About
    losses: Tuple[Loss, ...]

    def by_group(self) -> Dict[str, Curve]:
        """By group id its curve, which begins at no loss."""
        losses: Dict[str, List[Loss]] = {}
        for loss in self.losses:
            losses.setdefault(loss.group, []).append(loss)
        curves = {}
        for group, rows in losses.items():
            rows.sort(key=lambda row: row.removed)
            removed = np.array([0, *[row.removed for row in rows]], np.int64)
            values = np.array([0.0, *[row.loss for row in rows]])
            curves[group] = Curve(rows[0].channels, removed, values)
        return curves

    def scaled(self, factors: Mapping[str, float]) -> Curves:
        """Curves whose losses are multiplied, by group id; those of other groups stay."""
        losses = [
            loss._replace(loss=loss.loss * factors.get(loss.group, 1.0)) for loss in self.losses
        ]
        return self._replace(losses=tuple(losses))

    def to_bytes(self) -> bytes:
        """The content of a file."""
        first = _line({"format": FORMAT, "version": VERSION, **self.about._asdict()})
        return b"".join([first, *[_line(loss._asdict()) for loss in self.losses]])


def _line(tree: Mapping[str, Any]) -> bytes:
    """A line of a file, with its end."""
    # The name of a file may hold bytes that are no UTF-8: surrogates, which JSON writes escaped.
    return json.dumps(tree, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def read_curves(path: str) -> Curves:
    """Reads a file of curves; an unfinished last line is left out.

    Raises:
        PlanError: the file cannot be read, or holds no curves.
    """
    curves, _ = _read(path)
    return curves


def _read(path: str) -> Tuple[Curves, int]:
    """The curves of a file, and how many of its bytes are finished lines."""
    data = read_bytes(path, _OURS, PlanError)
    finished = data.rfind(b"\n") + 1
    try:
        # Not by `splitlines`, which also ends lines within a name, as at U+2028.
        lines = data[:finished].decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError:
        raise PlanError("not a text file", path, _OURS) from None
    if not lines:
        raise PlanError("holds no curves", path, _OURS)
    if '"graphslim-plan"' in "".join(lines[:3]):
        raise PlanError("holds a plan, and no curves", path, _OURS)
    about = _about(parse_json(lines[0], f"{path}, line 1", _OURS, PlanError), path)
    losses: Dict[Tuple[str, int], Loss] = {}
    for number, line in enumerate(lines[1:], 2):
        where = f"{path}, line {number}"
        loss = _loss(parse_json(line, where, _OURS, PlanError), where)
        losses.setdefault((loss.group, loss.removed), loss)
    return Curves(about, tuple(losses.values())), finished


def _about(tree: Any, path: str) -> About:
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise PlanError("holds no curves", path, _OURS)
    if tree.get("version") != VERSION:
        raise PlanError(f"has the version {tree.get('version')!r}", path, "measure again")
    fields: List[Any] = [tree.get(name) for name in About._fields]
    for name, value in zip(About._fields, fields):
        if type(value) is not _KINDS.get(name, str):
            raise PlanError(f"its {name} is {value!r}", f"{path}, line 1", _OURS)
    return About(*fields)


def _loss(tree: Any, where: str) -> Loss:
    fields: List[Any] = [
        tree.get(name) if isinstance(tree, dict) else None for name in Loss._fields
    ]
    group, channels, removed, loss, seconds = fields
    fits = isinstance(group, str) and is_count(channels) and is_count(removed)
    if not fits or removed >= channels or not is_finite(loss) or not is_finite(seconds):
        raise PlanError("holds no measurement", where, _OURS)
    return Loss(group, channels, removed, float(loss), float(seconds))


def curves_of(given: Any) -> Optional[Curves]:
    """Curves from the path of a file, or as they are; None stays None.

    Raises:
        PlanError: the file cannot be read, or holds no curves.
    """
    if isinstance(given, (str, os.PathLike)):
        return read_curves(os.fspath(given))
    if given is None or isinstance(given, Curves):
        return given
    raise PlanError(f"a {type(given).__name__} is no file of curves", "--allocate", _OURS)


def merge(paths: Sequence[str]) -> Curves:
    """The measurements of several files of one network as one.

    Raises:
        PlanError: a file cannot be read, or was measured otherwise than the first.
    """
    parts = [read_curves(path) for path in paths]
    losses: Dict[Tuple[str, int], Loss] = {}
    for path, part in zip(paths, parts):
        differs = parts[0].about.difference(part.about)
        if differs is not None:
            raise PlanError(differs, path, f"merge files of one measurement: {paths[0]}")
        for loss in part.losses:
            losses.setdefault((loss.group, loss.removed), loss)
    return Curves(parts[0].about, tuple(losses.values()))


def save_curves(curves: Curves, path: str) -> None:
    """Writes a file of curves, whole or not at all.

    Raises:
        EmitError: the file cannot be written.
    """
    with replacing(path) as file:
        file.write(curves.to_bytes())


class Journal:
    """A file of curves that grows by a line with each measurement; a context manager.

    Where the file is there already, it is gone on with, and what it holds is `curves`.

    Args:
        path: the file; None keeps the measurements in memory alone.
        about: what is being measured.

    Attributes:
        curves: all measurements so far.

    Raises:
        PlanError: the file holds something else, or was measured otherwise.
        EmitError: the file cannot be written.
    """

    def __init__(self, path: Optional[str], about: About) -> None:
        self._path, self._file = path, None  # type: Optional[str], Any
        self.curves = Curves(about, ())
        if path is None:
            return
        check_target(path)
        if not os.path.exists(path) or not os.path.getsize(path):
            save_curves(self.curves, path)
        known, finished = _read(path)
        differs = about.difference(known.about)
        if differs is not None:
            raise PlanError(differs, path, "give -o another name, or remove the file")
        self.curves = known
        try:
            self._file = open(path, "r+b")  # noqa: SIM115  closed at the end
            self._file.truncate(finished)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise EmitError(f"cannot be written: {error.strerror}", path) from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, loss: Loss) -> None:
        """Adds a measurement, on the disk before anything else is done.

        Raises:
            EmitError: the file cannot be written.
        """
        self.curves = self.curves._replace(losses=(*self.curves.losses, loss))
        if self._file is None:
            return
        try:
            self._file.write(_line(loss._asdict()))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise EmitError(
                f"cannot be written: {error.strerror}",
                str(self._path),
                "what was measured before is kept; make room, and start again",
            ) from None


def check_fits(curves: Curves, sizes: Mapping[str, int], sha256: str) -> None:
    """Refuses curves of another network.

    Args:
        curves: the curves.
        sizes: by group id, how many channels a group of the network has.
        sha256: the digest of the network's file.

    Raises:
        PlanError: the curves are of another file, or of groups that are not there.
    """
    where = "--allocate"
    if curves.about.sha256 != sha256:
        raise PlanError(f"is of another model, {curves.about.model}", where, "measure this one")
    for group, curve in curves.by_group().items():
        if group not in sizes:
            raise PlanError(
                f"has a curve of {group!r}, which is no group", where, meant(group, sizes)
            )
        if sizes[group] != curve.channels:
            raise PlanError(
                f"{group} has {sizes[group]} channels, and the curve is of {curve.channels}", where
            )


def combined(losses: Sequence[float], in_squares: bool) -> float:
    """The loss of several groups together, as far as single ones tell."""
    if in_squares:
        return math.sqrt(sum([loss * loss for loss in losses]))
    return sum(losses)

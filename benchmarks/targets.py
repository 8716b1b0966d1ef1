"""What the numbers have to reach, and whether they do."""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence

PLATFORM = {"current": "current TensorFlow", "first": "TensorFlow 1.15"}
Numbers = Mapping[str, Any]


class Target(NamedTuple):
    """One thing to reach.

    Attributes:
        what: in words.
        wanted: the bound, in words.
        measured: what was measured, in words.
        reached: whether it is within the bound.
        why: by how much not.
    """

    what: str
    wanted: str
    measured: str
    reached: bool
    why: str = ""


def targets(numbers: Numbers) -> List[Target]:
    """Every target that something was measured of."""
    return [
        *_compile(numbers.get("compile", {})),
        *_shell(numbers.get("compile", {})),
        *_coverage(numbers.get("coverage", {})),
        *_latency(numbers.get("latency", {})),
        *_scale(numbers.get("scale", [])),
        *_shapes(numbers.get("shapes", [])),
    ]


def _at_most(what: str, most: float, found: Optional[float], why: str = "") -> Iterator[Target]:
    if found is not None:
        over = "" if found <= most else f"({found / most:.2f} times that{why})"
        yield Target(what, f"<= {most:g}", f"{found:.2f}", found <= most, over)


def _compile(found: Numbers) -> Iterator[Target]:
    for key, row in found.items():
        platform, _, network = key.partition("/")
        if network != "shell":
            times, where = row["milliseconds"], f"{network}, {PLATFORM[platform]}"
            floor = ratio(times, "graphslim", "floor")
            blame = _shares(times["graphslim"]["steps"])
            most = 1.0 if network == "ResNet50" else 3.0
            yield from _at_most(f"load to write / protobuf floor, {where}", most, floor, blame)
            for name in ("onnxsim", "onnxsim, simplified"):
                peer = ratio(times, "graphslim", name)
                yield from _at_most(f"load to write / {name}, {where}", 1.0, peer, blame)
            yield from _against_torch(times, where)


def _shares(steps: Numbers) -> str:
    """Where the time goes, the longest step first."""
    whole = sum(steps.values())
    ordered = sorted(steps, key=lambda step: -steps[step])
    return ": " + ", ".join([f"{step} {100 * steps[step] / whole:.0f} %" for step in ordered])


def _against_torch(times: Numbers, where: str) -> Iterator[Target]:
    """Analyse, plan and apply against build and step: medians of the steps."""
    if "Torch-Pruning" in times:
        own = times["graphslim"]["steps"]
        mine = sum([own[step] for step in ("analyse", "plan", "apply")])
        theirs = sum(times["Torch-Pruning"]["steps"].values())
        yield from _at_least(
            f"Torch-Pruning's build and step / analyse, plan and apply, {where}", 2, theirs / mine
        )


def _at_least(what: str, least: float, found: float) -> Iterator[Target]:
    short = "" if found >= least else f"({found / least:.2f} of that)"
    yield Target(what, f">= {least:g}", f"{found:.2f}", found >= least, short)


def _shell(found: Numbers) -> Iterator[Target]:
    for platform, words in PLATFORM.items():
        shell = found.get(f"{platform}/shell")
        if shell:
            share = shell["graphslim inspect"]["median"] / shell["import tensorflow"]["median"]
            yield from _at_most(f"graphslim inspect / import tensorflow, {words}", 0.25, share)


def _coverage(found: Numbers) -> Iterator[Target]:
    """Whether more is cut than by any peer; where all can halve every group, they are level."""
    for network, row in found.items():
        own = row["graphslim"]["weights"]
        others = {name: one["weights"] for name, one in row.items() if "weights" in one}
        del others["graphslim"]
        if others:
            best = max(others, key=lambda name: others[name])
            level, reached = abs(own - others[best]) < 5e-4, own > others[best] + 5e-4
            behind = f"({100 * (others[best] - own):.1f} points behind)"
            yield Target(
                f"share of weights cut, {network}",
                f"the best peer: {100 * others[best]:.1f} % ({best})",
                f"{100 * own:.1f} %",
                reached,
                "" if reached else "(level: both halve every group)" if level else behind,
            )


def _latency(found: Numbers) -> Iterator[Target]:
    ratios = {key: row["to built"]["median"] for key, row in found.items()}
    if ratios:
        beyond = [key for key, one in ratios.items() if not 0.97 <= one <= 1.03]
        yield Target(
            "pruned / built at those widths, each network, platform, threads and batch",
            "0.97 to 1.03",
            f"{min(ratios.values()):.3f} to {max(ratios.values()):.3f}",
            not beyond,
            f"({len(beyond)} of {len(ratios)} beyond)" if beyond else "",
        )


def _scale(found: Sequence[Mapping[str, float]]) -> Iterator[Target]:
    rows = {row["length"]: row for row in found}
    small, large = rows.get(1_000), rows.get(100_000)
    if small and large:
        steps = [name for name in small if name not in ("shape", "length", "peak")]
        for what, names in (("time", steps), ("memory", ["peak"])):
            each = [sum([row[name] for name in names]) / row["length"] for row in (small, large)]
            yield from _at_most(
                f"{what} per block at 10^5 blocks / at 10^3", 1.3, each[1] / each[0]
            )


def _shapes(found: Sequence[Mapping[str, Any]]) -> Iterator[Target]:
    for small, large in zip(found[::2], found[1::2]):
        each = [
            sum([row[step] for step in row if step not in ("shape", "length", "peak")])
            / row["length"]
            for row in (small, large)
        ]
        what = f"time per node at {large['length']:,} {large['shape']} / at {small['length']:,}"
        yield from _at_most(what, 1.3, each[1] / each[0])


def ratio(times: Numbers, name: str, other: str) -> Optional[float]:
    """How many times as long one takes as another: the median over the rounds."""
    if name not in times or other not in times:
        return None
    pairs = zip(times[name]["rounds"], times[other]["rounds"])
    return median([one / two for one, two in pairs])


def median(numbers: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    ordered = sorted(numbers)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2

"""Models in the formats that phones and servers run: the options, the delivery, what is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Union

import click

from graphslim.cli import console
from graphslim.cli.console import Console
from graphslim.cli.options import Command, Running, combined, packed
from graphslim.cli.tables import print_changes, print_table
from graphslim.delivery.formats import (
    EDGES,
    GRAPH,
    ONNX,
    QUANTISATIONS,
    TFLITE,
    Wish,
    check_wish,
    format_of_target,
)
from graphslim.errors import GraphslimError
from graphslim.graphdef.kinds import check_graph_ending
from graphslim.ir import Graph
from graphslim.plans import TARGETS, Plan
from graphslim.rewrite import zero_consumers
from graphslim.support.text import count

if TYPE_CHECKING:
    from graphslim.delivery import Delivery
    from graphslim.measure.timings import Timings

SECONDS = 20.0
"""How long the result and the original take turns, so that their times can be printed."""


class Delivering(NamedTuple):
    """The options of how a model is converted; see `delivery_options`."""

    quantize: Optional[str]
    io: str
    random_calibration: bool
    select_tf_ops: bool

    @property
    def wish(self) -> Wish:
        """The same, as converters take it."""
        return Wish(*self)

    def target(self, output: str) -> Optional[str]:
        """What `--for` would be, by the format that is written; None for a graph or SavedModel."""
        if format_of_target(output) == TFLITE:
            return "tflite-int8" if self.quantize == "int8" else "tflite"
        return "ort" if format_of_target(output) == ONNX else None

    def check(self, output: str, running: Running) -> None:
        """Refuses, before any work is done, a name or options that say something else.

        Raises:
            GraphslimError: the message says which.
        """
        check_wish(output, self.wish, running.data is not None)
        if format_of_target(output) == GRAPH:
            check_graph_ending(output)

    def deliver(
        self,
        output: str,
        stored: Graph,
        running: Running,
        check: Optional[bool],
        original: Optional[Graph] = None,
        plan: Optional[Plan] = None,
        force: bool = False,
        quiet: bool = False,
    ) -> Optional[Delivery]:
        """What is to be written in the place of a graph; None where that is a graph.

        Args:
            output: the file or folder.
            stored: the graph that is delivered.
            running: the options of the comparison.
            check: whether to run it; None: if its runtime is installed.
            original: the graph that it was made from; None where there is no other.
            plan: what it was pruned by, if its weights are those of the original: without
                quantisation it is then held against the original that ignores the channels.
            force: whether the plan may be of another checkpoint.
            quiet: draw no progress bar.

        Raises:
            VerifyError: it computes something else in its runtime.
            GraphslimError: it cannot be converted.
        """
        if format_of_target(output) == GRAPH:
            return None
        from graphslim.delivery import deliver

        if original is not None and plan is not None and self.quantize is None:
            original = zero_consumers(original, plan, force)
        with console.bar(console.err, quiet) as tick:
            return deliver(
                stored,
                output,
                self.wish,
                original=original,
                verify=check,
                progress=tick,
                **running._asdict(),
            )


def delivery_options(command: Command) -> Command:
    """The options of how a model is converted; the command gets a `Delivering` as `delivering`."""
    return combined(
        packed(command, "delivering", Delivering),
        click.option(
            "--quantize",
            type=click.Choice(QUANTISATIONS),
            help="For OUT.tflite: store weights in 8 bits (dynamic) or 16 (float16), or compute "
            "all in 8 bits (int8), by the ranges of all tensors over --data.",
        ),
        click.option(
            "--io",
            type=click.Choice(EDGES),
            default=EDGES[0],
            show_default=True,
            help="The element type of an int8 model's inputs and outputs.",
        ),
        click.option(
            "--random-calibration",
            is_flag=True,
            help="Calibrate --quantize int8 on random inputs in place of --data, only to try it.",
        ),
        click.option(
            "--select-tf-ops",
            is_flag=True,
            help="Leave ops that TensorFlow Lite lacks to TensorFlow, which the application then "
            "has to link.",
        ),
        heading="Converting",
    )


def content(graph: Graph, delivery: Optional[Delivery]) -> Union[Graph, Any]:
    """What is written: the graph, or the files that it was converted to."""
    return graph if delivery is None else delivery.package


def target_of(plan: Plan) -> Optional[str]:
    """What `--for` was when a plan was made; None where it was not given."""
    target = plan.settings.get("runtime")
    return target if target in TARGETS else None


def timed_in(
    target: Optional[str],
    graph: Graph,
    slim: Graph,
    running: Running,
    threads: int,
    quiet: bool = False,
) -> Optional[Timings]:
    """The original and the result, timed in turns in the runtime that the result is for.

    Args:
        target: what `--for` takes; None for none.
        graph, slim: the original and the result.
        running: the options of the comparison.
        threads: threads within an op; 0 for as many as there are cores.
        quiet: draw no progress bar.

    Returns:
        the times; None without a runtime, or where they cannot be taken, which is said on stderr.
    """
    if target is None:
        return None
    from graphslim.delivery.timing import Workshop, require_place

    try:
        require_place(target)
        with console.bar(console.err, quiet) as tick, Workshop(target, threads) as workshop:
            given: Dict[str, Any] = dict(batch=running.batch, progress=tick, seconds=SECONDS)
            return workshop.times([graph, slim], **given)
    except GraphslimError as error:
        console.err.print(f"not timed: {error.told}")
        return None


def print_gain(console: Console, times: Timings) -> None:
    """Prints the time of a result beside that of its original; in red where it is slower."""
    from graphslim.delivery.told import gain

    text, slower = gain(times)
    console.print(text, style="bold red" if slower else None)
    for note in times.notes:
        console.print(note)


def print_delivery(console: Console, delivery: Delivery) -> None:
    """Prints the format, the sizes and what the model loses in its runtime."""
    from graphslim.delivery.told import losses_table, title_of

    losses, size, title = delivery.losses, delivery.package.size, title_of(delivery)
    if delivery.before is None:
        console.print(f"{title}: {count(size)} bytes")
    else:
        print_changes(console, title, [("size in bytes", delivery.before, size)])
    for note in delivery.notes:
        console.print(note)
    if losses is None:
        console.print(f"Not run in its runtime: {delivery.why_not}")
        return
    if losses.original is not None and not losses.judged:
        over = f"{losses.version} against TensorFlow, over {losses.result.inputs}"
        print_table(console, over, *losses_table(losses))
    console.print(losses.sentence())
    if losses.caution is not None:
        console.print(f"Caution: {losses.caution}.", style="bold")

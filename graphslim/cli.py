"""The command line: inspect, prune, verify, passes."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import click
from rich.console import Console

from graphslim import show
from graphslim._version import __version__
from graphslim.api import find_blocks
from graphslim.errors import EmitError, GraphslimError, VerifyError
from graphslim.graphdef import load, save
from graphslim.graphdef.emit import replacing
from graphslim.ir import Graph
from graphslim.pipeline import Dump, Observer, Pipeline, Timing, Verify, find_pass, passes
from graphslim.plans import DEAD_BELOW, Plan

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the command line and exits with its status."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(cli.main(args=args, prog_name="graphslim", standalone_mode=False) or OK)
    except VerifyError as error:
        _complain(error, args)
        sys.exit(FAILED)
    except GraphslimError as error:
        _complain(error, args)
        sys.exit(BAD_INPUT)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "graphslim"
        _complain(f"{error.format_message().rstrip('.')} (see {command} --help)", args)
        sys.exit(BAD_INPUT)
    except click.ClickException as error:
        _complain(error.format_message(), args)
        sys.exit(BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")
        sys.exit(OK)


def _complain(error: object, args: Sequence[str]) -> None:
    if "--debug" in args:
        traceback.print_exc()
    sys.stderr.write(f"graphslim: {' '.join(str(error).split())}\n")


def _shapes(context: click.Context, option: click.Parameter, texts: Tuple[str, ...]) -> Dict[str, List[Optional[int]]]:
    shapes: Dict[str, List[Optional[int]]] = {}
    for text in texts:
        name, mark, sizes = text.rpartition("=")
        try:
            numbers = [None if size in ("?", "-1") else int(size) for size in sizes.split(",")]
        except ValueError:
            numbers, mark = [], ""
        if not mark or not name or any(size is not None and size < 1 for size in numbers):
            raise click.BadParameter(f"{text!r} is not of the form NAME=1,224,224,3")
        shapes[name] = numbers
    return shapes


def _names(context: click.Context, option: click.Parameter, texts: Tuple[str, ...]) -> List[str]:
    return [name for text in texts for name in text.split(",") if name]


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command on a model has."""
    for decorate in reversed(
        (
            click.option("--inputs", multiple=True, callback=_names, metavar="NAME,...",
                         help="Nodes that are fed. Default: the placeholders."),
            click.option("--outputs", multiple=True, callback=_names, metavar="NAME,...",
                         help="What to compute. Default: what nothing reads."),
            click.option("--input-shape", "input_shapes", multiple=True, callback=_shapes,
                         metavar="NAME=1,224,224,3", help="The shape of an input that the file leaves open."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables."),
            click.option("-v", "--verbose", is_flag=True, help="Say more, on stderr."),
            click.option("--debug", is_flag=True, help="On an error, print the traceback too."),
        )
    ):  # fmt: skip
        command = decorate(command)
    return command


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that run graphs."""
    for decorate in reversed(
        (
            click.option("--data", metavar="FILE", help="Inputs: an .npz, an .npy or a folder of images. "
                         "Default: seeded random data."),
            click.option("--seed", default=0, show_default=True, help="For the random data."),
            click.option("--batch", default=1, show_default=True, type=click.IntRange(1),
                         help="Examples, where the batch is open."),
            click.option("--tolerance", default=1e-4, show_default=True, type=click.FloatRange(0),
                         help="Largest difference allowed, as a share of each output's range."),
        )
    ):  # fmt: skip
        command = decorate(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="graphslim")
def cli() -> None:
    """Makes TensorFlow graphs narrower: finds channels that can go, and removes them for real.

    MODEL is a frozen GraphDef, .pb or .pbtxt. No source code of the network is needed.
    """


@cli.command()
@click.argument("model")
@click.option("--why-not", is_flag=True, help="For what cannot be pruned: which op and node forbid it.")
@click.option("--explain", metavar="NODE", help="Why a node is in no block: how near each pattern came.")
@model_options
def inspect(
    model: str, why_not: bool, explain: Optional[str], inputs: List[str], outputs: List[str],
    input_shapes: Dict[str, Any], as_json: bool, verbose: bool, debug: bool,
) -> int:  # fmt: skip
    """Show a model: its inputs and outputs, blocks, channel groups and cost."""
    graph = find_blocks(load(model, inputs=inputs, outputs=outputs, input_shapes=input_shapes))
    if explain is not None and explain not in graph:
        raise GraphslimError(f"no node {explain!r} in {graph.name}", "--explain", "give a node's full name")
    if as_json:
        click.echo(json.dumps(show.inspection(graph), indent=1))
    elif explain is not None:
        show.print_explanation(out, graph, explain)
    elif why_not:
        show.print_why_not(out, graph)
    else:
        show.print_inspection(out, graph)
    return OK


@cli.command()
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="OUT.pb", help="Where the smaller graph goes (.pb, .pbtxt).")
@click.option("--dead", is_flag=True, default=True,
              help="Remove the channels that provably change no output (the default).")
@click.option("--dead-below", default=DEAD_BELOW, show_default=True, type=click.FloatRange(0),
              help="Weights of smaller magnitude count as zero; 0: exact zeros alone.")
@click.option("--scope", default="all", show_default=True, type=click.Choice(["blocks", "all"]),
              help="Where: inside recognised blocks alone, or everywhere.")
@click.option("--only", multiple=True, metavar="GLOB", help="Only groups or blocks of such names.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="No groups or blocks of such names.")
@click.option("--multiple-of", type=click.IntRange(1), metavar="N",
              help="Keep a multiple of N channels per group.  [default: 4 with --scope blocks, else 1]")
@click.option("--min-channels", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Keep at least N channels per group.")
@click.option("--pass", "extra", multiple=True, metavar="NAME",
              help="Run a pass on the result too: a name (`graphslim passes`), module:Class or file.py:Class.")
@click.option("--plan-out", metavar="P.json", help="Write down what was removed and why.")
@click.option("--verify/--no-verify", "check", default=None,
              help="Compare the outputs before writing.  [default: where TensorFlow is installed]")
@click.option("--verify-each", is_flag=True, help="Check the graph's invariants after each pass.")
@click.option("--time-passes", is_flag=True, help="Print what each pass takes, on stderr.")
@click.option("--dump-after", multiple=True, metavar="PASS", help="Write the graph after a pass, beside OUT.")
@click.option("--force", is_flag=True, help="Allow OUT to be MODEL itself.")
@run_options
@model_options
def prune(
    model: str, output: str, dead: bool, dead_below: float, scope: str, only: Tuple[str, ...],
    exclude: Tuple[str, ...], multiple_of: Optional[int], min_channels: int, extra: Tuple[str, ...],
    plan_out: Optional[str], check: Optional[bool], verify_each: bool, time_passes: bool,
    dump_after: Tuple[str, ...], force: bool, data: Optional[str], seed: int, batch: int,
    tolerance: float, inputs: List[str], outputs: List[str], input_shapes: Dict[str, Any],
    as_json: bool, verbose: bool, debug: bool,
) -> int:  # fmt: skip
    """Remove channels from MODEL and write the smaller graph to OUT.

    By default the channels that are provably dead, so that the outputs stay as they are.
    """
    started = time.perf_counter()
    for target in (output, plan_out):
        check_target(target, [model], force)
    graph = load(model, inputs=inputs, outputs=outputs, input_shapes=input_shapes)
    remove = find_pass("remove-dead-channels")(  # type: ignore[call-arg]
        dead_below=dead_below, scope=scope, only=only, exclude=exclude,
        multiple_of=multiple_of, min_channels=min_channels,
    )  # fmt: skip
    pipeline = Pipeline(["find-inverted-residual", "find-squeeze-excite", remove, *extra])
    timing, dump = Timing(), Dump(os.path.dirname(output) or ".", dump_after)
    _check_names(dump_after, [step.name for step in pipeline.steps])
    observers: List[Observer] = [timing, dump] + ([Verify()] if verify_each else [])
    slim = graph.copy()
    results = pipeline.run(slim, observers)
    plan = next((outcome.plan for _, outcome in results if outcome.plan is not None), None)
    seconds = time.perf_counter() - started
    if verbose:
        for name, outcome in results:
            err.print(f"{name}: {'; '.join(outcome.notes)}")
    agreement = _check(graph, slim, check, data, seed, batch, tolerance)
    if agreement is not None and not agreement.ok:
        show.print_agreement(err, agreement)
        raise VerifyError(
            f"the result differs by {agreement.worst.relative:.3g} of the range of {agreement.worst.name}",
            output,
            "nothing was written; look at it with --no-verify, or try --dead-below 0",
        )
    save(slim, output)
    if plan_out and plan is not None:
        write_text(plan_out, plan.to_json())
    if as_json:
        click.echo(json.dumps(_summary(graph, slim, plan, agreement, output), indent=1))
    else:
        show.print_pruning(out, graph, slim, plan, agreement, seconds)
        if agreement is None:
            out.print("Not verified: " + ("--no-verify" if check is False else "TensorFlow is not installed"))
        out.print(f"Written to {output}", soft_wrap=True)
    if time_passes:
        show.print_times(err, timing.seconds)
    for path in dump.written:
        err.print(f"dumped {path}")
    return OK


def _check_names(wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if name not in known:
            raise GraphslimError(f"{name!r} is not run", "--dump-after", f"the passes are: {', '.join(known)}")


def _check(
    graph: Graph, slim: Graph, check: Optional[bool], data: Optional[str], seed: int, batch: int, tolerance: float
) -> Any:
    """The agreement of two graphs, or None if they are not to be compared."""
    from graphslim import runtime

    if check is False or (check is None and not runtime.available()):
        return None
    from graphslim.compare import verify as run
    from graphslim.feeds import load_feeds

    feeds = load_feeds(graph, data, batch) if data else None
    return run(graph, slim, feeds=feeds, seed=seed, batch=batch, tolerance=tolerance)


def _summary(graph: Graph, slim: Graph, plan: Optional[Plan], agreement: Any, output: str) -> Dict[str, Any]:
    from graphslim.analysis.cost import cost
    from graphslim.compare import as_dict

    before, after = cost(graph), cost(slim)
    return {
        "output": output,
        "removed": 0 if plan is None else plan.removed,
        "groups": [] if plan is None else [
            {"id": group.id, "block": group.block, "channels": group.channels, "removed": list(group.removed)}
            for group in plan.groups
        ],
        "params": [before.params, after.params],
        "macs": [before.macs, after.macs],
        "verified": None if agreement is None else as_dict(agreement),
    }  # fmt: skip


def check_target(target: Optional[str], inputs: Sequence[str], force: bool) -> None:
    """Refuses, before any work is done, an output that cannot be written or is an input.

    Raises:
        EmitError: so.
    """
    if target is None:
        return
    folder = os.path.dirname(target) or "."
    if os.path.isdir(target):
        raise EmitError("is a folder", target, "give a file name")
    if not os.path.isdir(folder):
        raise EmitError("the folder does not exist", target, f"create {folder} first")
    if not os.access(folder, os.W_OK):
        raise EmitError("the folder is not writable", target, "choose another, or change its permissions")
    for one in inputs:
        if not force and os.path.exists(target) and os.path.exists(one) and os.path.samefile(target, one):
            raise EmitError("is the input itself", target, "choose another name, or give --force")


def write_text(path: str, text: str) -> None:
    """Writes a text file that appears whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


@cli.command()
@click.argument("first", metavar="A.pb")
@click.argument("second", metavar="B.pb")
@click.option("--plan", "plan_path", metavar="P.json",
              help="Compare with A masked by a plan, which is what a graph pruned by it must compute.")
@click.option("--force", is_flag=True, help="Allow a plan that was made for another checkpoint.")
@run_options
@model_options
def verify(
    first: str, second: str, plan_path: Optional[str], force: bool, data: Optional[str], seed: int,
    batch: int, tolerance: float, inputs: List[str], outputs: List[str], input_shapes: Dict[str, Any],
    as_json: bool, verbose: bool, debug: bool,
) -> int:  # fmt: skip
    """Run two graphs on the same inputs and compare their outputs; exit status 1 if they differ."""
    one = load(first, inputs=inputs, outputs=outputs, input_shapes=input_shapes)
    other = load(second, inputs=inputs, outputs=outputs, input_shapes=input_shapes)
    plan = read_plan(plan_path) if plan_path else None
    from graphslim.compare import as_dict
    from graphslim.compare import verify as run
    from graphslim.feeds import load_feeds

    feeds = load_feeds(one, data, batch) if data else None
    agreement = run(
        one, other, plan=plan, feeds=feeds, seed=seed, batch=batch, tolerance=tolerance, force=force
    )
    if as_json:
        click.echo(json.dumps(as_dict(agreement), indent=1))
    else:
        show.print_agreement(out, agreement)
    return OK if agreement.ok else FAILED


def read_plan(path: str) -> Plan:
    """Reads a plan file.

    Raises:
        GraphslimError: it cannot be read or is no plan.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return Plan.from_json(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise GraphslimError(f"cannot be read: {error}", path, "give a plan that --plan-out wrote") from None


@cli.command(name="passes")
def list_passes() -> int:
    """List the passes that can be run with --pass."""
    for name, cls in sorted(passes().items()):
        click.echo(f"{name:26} {cls.summary()}")
    return OK

"""The command line: inspect, prune, verify, passes."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any, Dict, List, Optional, Sequence, Tuple

import click

from graphslim import show
from graphslim._version import __version__
from graphslim.analysis.cautions import cautions
from graphslim.api import find_blocks, finders
from graphslim.errors import EmitError, GraphslimError, VerifyError
from graphslim.graphdef import save, saved_model
from graphslim.graphdef.emit import check_target, replacing
from graphslim.options import Finite, Reading, Running, model_options, run_options
from graphslim.pipeline import (
    Dump,
    FindBlocks,
    Observer,
    Outcome,
    Pass,
    Pipeline,
    Timing,
    Verify,
    find_pass,
    passes,
)
from graphslim.plans import DEAD_BELOW, Plan

OK, FAILED, BAD_INPUT, INTERRUPTED, PIPE = 0, 1, 2, 130, 141

out = show.Console()
err = show.Console(stderr=True)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the command line and exits with its status."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_status(args))


def _status(args: List[str]) -> int:
    try:
        status = cli.main(args=args, prog_name="graphslim", standalone_mode=False)
        sys.stdout.flush()
        return status or OK
    except VerifyError as error:
        return _complain(error, args, FAILED)
    except GraphslimError as error:
        return _complain(error, args)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "graphslim"
        return _complain(f"{error.format_message().rstrip('.')} (see {command} --help)", args)
    except click.ClickException as error:
        return _complain(error.format_message(), args)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {error}"
        return _complain(f"{text} (a bug; please report what --debug prints)", args)


def _complain(error: object, args: Sequence[str], status: int = BAD_INPUT) -> int:
    if "--debug" in args:
        traceback.print_exc()
    sys.stderr.write(f"graphslim: {' '.join(str(error).split())}\n")
    return status


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, prog_name="graphslim")
@click.pass_context
def cli(context: click.Context) -> None:
    """Makes TensorFlow graphs narrower: finds channels that can go, and removes them for real.

    MODEL is a frozen GraphDef, .pb or .pbtxt, or the folder of a SavedModel. No source code of the
    network is needed.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(short_help="Show a model's blocks, channels and cost.")
@click.argument("model")
@click.option("--why-not", is_flag=True, help="What cannot be pruned, and which op forbids it.")
@click.option("--explain", metavar="NODE", help="Why a node is in no block: how near each came.")
@model_options
def inspect(
    model: str,
    why_not: bool,
    explain: Optional[str],
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Show a model: its inputs and outputs, blocks, channel groups and cost."""
    started = time.perf_counter()
    graph = find_blocks(reading.load(model))
    if explain is not None and explain not in graph:
        raise GraphslimError(
            f"no node {explain!r} in {graph.name}", "--explain", "give a node's full name"
        )
    if verbose:
        err.print(f"read and analysed in {time.perf_counter() - started:.2f} s")
    if as_json and explain is not None:
        _print_json(show.explanation(graph, explain))
    elif as_json:
        _print_json(show.inspection(graph))
    elif explain is not None:
        show.print_explanation(out, graph, explain)
    elif why_not:
        show.print_why_not(out, graph)
    else:
        show.print_inspection(out, graph)
    return OK


def _print_json(tree: Any) -> None:
    click.echo(json.dumps(tree, indent=1, allow_nan=False))


@cli.command(short_help="Remove channels; write the smaller graph.")
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="OUT.pb", help="The new file (.pb, .pbtxt).")
@click.option(
    "--dead",
    is_flag=True,
    expose_value=False,
    help="Remove the channels that provably change no output (the default).",
)
@click.option(
    "--dead-below",
    default=DEAD_BELOW,
    show_default=True,
    type=Finite(),
    metavar="W",
    help="Weights of smaller magnitude count as zero; 0: exact zeros alone.",
)
@click.option(
    "--scope",
    default="all",
    show_default=True,
    type=click.Choice(["blocks", "all"]),
    help="Where: inside recognised blocks alone, or everywhere.",
)
@click.option("--only", multiple=True, metavar="GLOB", help="Only groups or blocks of such names.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="No groups or blocks of such names.")
@click.option(
    "--multiple-of",
    type=click.IntRange(1),
    metavar="N",
    help="Keep a multiple of N channels per group.  [default: 4 with --scope blocks, else 1]",
)
@click.option(
    "--min-channels",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Keep at least N channels per group.",
)
@click.option(
    "--pass",
    "extra",
    multiple=True,
    metavar="PASS",
    help="Run a pass too: a name (see `graphslim passes`), module:Class or file.py:Class. "
    "What finds blocks runs before channels are removed, the rest after.",
)
@click.option("--plan-out", metavar="P.json", help="Write down what was removed and why.")
@click.option(
    "--verify/--no-verify",
    "check",
    default=None,
    help="Compare the outputs before writing.  [default: where TensorFlow is installed]",
)
@click.option("--verify-each", is_flag=True, help="Check the graph's invariants after each pass.")
@click.option("--time-passes", is_flag=True, help="Print what each pass takes, on stderr.")
@click.option(
    "--dump-after",
    multiple=True,
    metavar="PASS",
    help="Write the graph after a pass to NN-PASS.pbtxt beside OUT.",
)
@click.option("--force", is_flag=True, help="Allow OUT to be MODEL itself.")
@run_options
@model_options
def prune(
    model: str,
    output: str,
    extra: Tuple[str, ...],
    plan_out: Optional[str],
    check: Optional[bool],
    verify_each: bool,
    time_passes: bool,
    dump_after: Tuple[str, ...],
    force: bool,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
    **selection: Any,
) -> int:
    """Remove channels from MODEL and write the smaller graph to OUT.

    By default the channels that are provably dead, so that the outputs stay as they are.
    """
    started = time.perf_counter()
    _check_targets(output, plan_out, [model, *saved_model.files_of(model), running.data], force)
    remove = find_pass("remove-dead-channels")(**selection)
    pipeline = Pipeline(_steps(remove, extra))
    timing, dump = Timing(), Dump(os.path.dirname(output), _known(dump_after, pipeline))
    observers: List[Observer] = [timing, dump] + ([Verify()] if verify_each else [])
    graph = reading.load(model)
    for caution in cautions(graph):
        err.print(f"caution: {caution}")
    slim = graph.copy()
    results = pipeline.run(slim, observers)
    plan = next((outcome.plan for _, outcome in results if outcome.plan is not None), None)
    seconds = time.perf_counter() - started
    _report(results if verbose else [], timing if time_passes else None, dump)
    agreement = None
    if check or (check is None and _can_run()):
        agreement = running.compare(graph, slim)
        if not agreement.ok:
            show.print_agreement(err, agreement)
            raise VerifyError(
                f"the result differs by {agreement.worst.relative:.3g} of the range "
                f"of {agreement.worst.name}",
                output,
                "nothing was written; look at it with --no-verify, or try --dead-below 0",
            )
    save(slim, output)
    if plan_out and plan is not None:
        with replacing(plan_out) as file:
            file.write(plan.to_json().encode("utf-8"))
    if as_json:
        _print_json(show.pruning(graph, slim, plan, agreement, output))
        return OK
    show.print_pruning(out, graph, slim, plan, agreement, seconds)
    if agreement is None:
        out.print(
            "Not verified: "
            + ("--no-verify was given." if check is False else "TensorFlow is not installed.")
        )
    out.print(f"Written to {output}")
    return OK


def _check_targets(
    output: str, plan_out: Optional[str], inputs: Sequence[Optional[str]], force: bool
) -> None:
    """Refuses, before any work is done, what cannot be written or is an input."""
    targets = [target for target in (output, plan_out) if target is not None]
    for target in targets:
        check_target(target)
        for one in inputs:
            if not force and one is not None and _same_file(target, one):
                raise EmitError(
                    "is the input itself", target, "choose another name, or give --force"
                )
    if len(targets) == 2 and os.path.realpath(output) == os.path.realpath(targets[1]):
        raise EmitError("is the output too", f"--plan-out {plan_out}", "choose another name")


def _same_file(one: str, other: str) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _steps(remove: Pass, extra: Sequence[str]) -> List[Any]:
    """The passes in order: what finds blocks, the removal, and the rest that was asked for."""
    asked = [(name, find_pass(name)) for name in extra]
    found = [name for name, cls in asked if issubclass(cls, FindBlocks)]
    others = [name for name, cls in asked if not issubclass(cls, FindBlocks)]
    # A finder from a file registers itself when it is read, and would run twice.
    built_in = [name for name in finders() if name not in [cls.name for _, cls in asked]]
    return [*built_in, *found, remove, *others]


def _known(wanted: Sequence[str], pipeline: Pipeline) -> Sequence[str]:
    names = [step.name for step in pipeline.steps]
    for name in wanted:
        if name not in names:
            raise GraphslimError(
                f"{name!r} is not run", "--dump-after", f"the passes are: {', '.join(names)}"
            )
    return wanted


def _can_run() -> bool:
    from graphslim import runtime

    return runtime.available()


def _report(results: Sequence[Tuple[str, Outcome]], timing: Optional[Timing], dump: Dump) -> None:
    """What the passes said, took and left, on stderr."""
    for name, outcome in results:
        err.print(f"{name}: {'; '.join(outcome.notes) or 'nothing to say'}")
    if timing is not None:
        show.print_times(err, timing.seconds)
    for path in dump.written:
        err.print(f"dumped {path}")


@cli.command(short_help="Compare what two graphs compute.")
@click.argument("first", metavar="A.pb")
@click.argument("second", metavar="B.pb")
@click.option(
    "--plan",
    "plan_path",
    metavar="P.json",
    help="Compare with A masked by a plan, which is what a graph pruned by it must compute.",
)
@click.option("--force", is_flag=True, help="Allow a plan that was made for another checkpoint.")
@run_options
@model_options
def verify(
    first: str,
    second: str,
    plan_path: Optional[str],
    force: bool,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Run two graphs on the same inputs and compare their outputs; exit status 1 if they differ."""
    one, other = reading.load_pair(first, second)
    plan = read_plan(plan_path) if plan_path else None
    from graphslim.compare import as_dict

    started = time.perf_counter()
    agreement = running.compare(one, other, plan, force)
    if verbose:
        from graphslim import runtime

        seconds = time.perf_counter() - started
        err.print(f"both run by TensorFlow {runtime.version()} in {seconds:.2f} s")
    if as_json:
        _print_json(as_dict(agreement))
    else:
        show.print_agreement(out, agreement)
    return OK if agreement.ok else FAILED


def read_plan(path: str) -> Plan:
    """Reads a plan file.

    Raises:
        GraphslimError: it cannot be read or is no plan.
    """
    hint = "give a plan that --plan-out wrote"
    try:
        with open(path, encoding="utf-8") as file:
            return Plan.from_json(file.read(), path)
    except OSError as error:
        raise GraphslimError(f"cannot be read: {error.strerror}", path, hint) from None
    except UnicodeDecodeError:
        raise GraphslimError("not a text file", path, hint) from None


@cli.command(name="passes", short_help="List the passes for --pass.")
def list_passes() -> int:
    """List the passes that can be run with --pass."""
    known: Dict[str, Any] = passes()
    width = max([len(name) for name in known])
    for name, cls in sorted(known.items()):
        click.echo(f"{name:{width}}  {cls.summary()}")
    return OK

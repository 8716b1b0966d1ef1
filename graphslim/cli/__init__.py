"""The command line: each command is a module of this package."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
import threading
import warnings
from importlib import import_module
from typing import Any, Callable, Iterator, List, Optional, Sequence

import click

from graphslim._version import __version__
from graphslim.cli import console
from graphslim.cli.console import BAD_INPUT, FAILED, INTERRUPTED, OK, PIPE
from graphslim.errors import GraphslimError, VerifyError, elided, visible
from graphslim.support.garbage import pause_gc
from graphslim.support.importing import DefinitionWarning, impostor
from graphslim.support.text import meant

_LONGEST = 1500
"""Characters of the longest line that an error is told in."""
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that end a process, and that leave it no time to clean up unless they are handled."""


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the command line and exits with its status.

    A process that is told to end (TERM, HUP) cleans up as one that is interrupted does, and exits
    with 128 and the signal's number: 143, 129. Told so a second time, it ends at once.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stderr is None:  # it was closed when the process was started
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the end
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names may not be in its encoding
    # Python would search all that is left for garbage when it ends: a second, after TensorFlow.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    with _ended_by_signals(), warnings.catch_warnings():
        warnings.simplefilter("always", DefinitionWarning)
        warnings.showwarning = _tell(warnings.showwarning)
        status = _status(args)
    sys.exit(status)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Lets signals that would kill the process end it, so that what is half written goes."""

    def end(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _tell(usual: Callable[..., None]) -> Callable[..., None]:
    """What shows a warning: one line for a definition that was left out, the usual for others."""

    def show(message: Any, category: Any, *rest: Any, **options: Any) -> None:
        if issubclass(category, DefinitionWarning):
            _complain(message, ())
        else:
            usual(message, category, *rest, **options)

    return show


def _status(args: List[str]) -> int:
    if sys.stdout is None:
        return _complain("standard output: is closed (send it to a file or to /dev/null)", args)
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
        return _complain("interrupted", (), INTERRUPTED)
    except BrokenPipeError:
        console.silence()
        return PIPE
    except MemoryError:
        return _complain("there is not enough memory for this (give a smaller graph)", args)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:
            # Files are written by functions that say which; this is the stream for results.
            return _complain(console.unwritable(error), args)
        text = f"internal error: {type(error).__name__}: {error}"
        bug = f"{text} (a bug; please report what --debug prints)"
        return _complain(impostor() or bug, args)


def _complain(error: object, args: Sequence[str], status: int = BAD_INPUT) -> int:
    text = error.told if isinstance(error, GraphslimError) else str(error)
    line = elided(visible(" ".join(text.split())), _LONGEST)
    with contextlib.suppress(OSError):  # nobody can be told where stderr is full
        if "--debug" in args:
            import traceback

            traceback.print_exc()
        sys.stderr.write(f"graphslim: {line}\n")
    return status


COMMANDS = {
    "apply": ("plan:apply", "Carry out a plan; write the smaller graph."),
    "bench": ("bench:bench", "Time two or more models side by side."),
    "compare": ("verify:compare", "Show what changed between two graphs, layer by layer."),
    "criteria": ("inspect:list_criteria", "List the criteria for --criterion."),
    "export": ("export:export", "Write a model as TensorFlow Lite, ONNX or a SavedModel."),
    "inspect": ("inspect:inspect", "Show a model's blocks, channels and cost."),
    "optimize": ("optimize:optimize", "Make a graph faster and smaller; remove no channel."),
    "passes": ("inspect:list_passes", "List the passes for --pass."),
    "plan": ("plan:plan", "Choose channels; write down which go, and why."),
    "plan-diff": ("plan:plan_diff", "Compare two plans."),
    "prune": ("prune:prune", "Remove channels; write the smaller graph."),
    "repair": ("repair:repair", "Fit what is left of a network to the original, by images."),
    "sensitivity": ("sensitivity:sensitivity", "Measure what each group's channels are worth."),
    "soft-prune": ("checkpoint:soft_prune", "Set channels of a checkpoint to zero, to train on."),
    "strip": ("checkpoint:strip", "Cut a plan's channels from a checkpoint; write the .pb too."),
    "summary": ("checkpoint:summary", "Count filters that should be zero and are not."),
    "verify": ("verify:verify", "Compare what two models compute."),
}
"""By name, the module of this package with what it calls the command, and what the list says."""


class Commands(click.Group):
    """The commands; the module of one is imported when it is asked for: each starts fast."""

    def list_commands(self, context: click.Context) -> List[str]:
        """Their names, in the order of the help text."""
        return sorted(COMMANDS)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands, of which none is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(context)])

    def get_command(self, context: click.Context, name: str) -> click.Command:
        """The command of a name.

        Raises:
            click.UsageError: no command has that name.
        """
        if name not in COMMANDS:
            raise click.UsageError(f"No such command {name!r}; {meant(name, COMMANDS)}", context)
        place, _, attribute = COMMANDS[name][0].partition(":")
        module = f"graphslim.cli.{place}"
        if module not in sys.modules:
            with pause_gc():
                import_module(module)
                gc.freeze()  # none of it is ever garbage
        command: click.Command = getattr(sys.modules[module], attribute)
        return command


def _tell_version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"graphslim, version {__version__}")
        for line in filter(None, [impostor()]):
            console.err.print(f"caution: {line}")
        context.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_tell_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Makes TensorFlow graphs narrower: finds channels that can go, and removes them for real.

    MODEL is a frozen GraphDef, .pb or .pbtxt, the folder of a SavedModel, a Keras model, .keras or
    .h5, the model.json of a TensorFlow.js graph model, or a TF1 checkpoint with its MetaGraph: the
    prefix of its files, one of them, or their folder, of which the latest is taken. No source code
    of the network is needed.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())

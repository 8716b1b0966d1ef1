"""The command line: each command is a module of this package."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from importlib import import_module
from typing import Any, Callable, List, Optional, Sequence

import click

from graphslim._version import __version__
from graphslim.cli.console import BAD_INPUT, FAILED, INTERRUPTED, OK, PIPE
from graphslim.errors import GraphslimError, VerifyError
from graphslim.importing import DefinitionWarning
from graphslim.words import meant


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the command line and exits with its status."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("always", DefinitionWarning)
        warnings.showwarning = _tell(warnings.showwarning)
        status = _status(args)
    sys.exit(status)


def _tell(usual: Callable[..., None]) -> Callable[..., None]:
    """What shows a warning: one line for a definition that was left out, the usual for others."""

    def show(message: Any, category: Any, *rest: Any, **options: Any) -> None:
        if issubclass(category, DefinitionWarning):
            _complain(message, ())
        else:
            usual(message, category, *rest, **options)

    return show


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


COMMANDS = {
    "apply": "plan:apply",
    "bench": "bench:bench",
    "compare": "compare:compare",
    "criteria": "criteria:list_criteria",
    "inspect": "inspect:inspect",
    "optimize": "optimize:optimize",
    "passes": "passes:list_passes",
    "plan": "plan:plan",
    "plan-diff": "plan_diff:plan_diff",
    "prune": "prune:prune",
    "soft-prune": "soft_prune:soft_prune",
    "strip": "strip:strip",
    "summary": "summary:summary",
    "verify": "verify:verify",
}
"""By name, the module of this package and what it calls the command."""


class Commands(click.Group):
    """The commands; the module of one is imported when it is asked for: each starts fast."""

    def list_commands(self, context: click.Context) -> List[str]:
        """Their names, in the order of the help text."""
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command:
        """The command of a name.

        Raises:
            click.UsageError: there is none.
        """
        if name not in COMMANDS:
            raise click.UsageError(f"No such command {name!r}; {meant(name, COMMANDS)}", context)
        module, _, command = COMMANDS[name].partition(":")
        found: click.Command = getattr(import_module(f"graphslim.cli.{module}"), command)
        return found


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="graphslim")
@click.pass_context
def cli(context: click.Context) -> None:
    """Makes TensorFlow graphs narrower: finds channels that can go, and removes them for real.

    MODEL is a frozen GraphDef, .pb or .pbtxt, the folder of a SavedModel, or a TF1 checkpoint with
    its MetaGraph: the prefix of its files, one of them, or the folder whose latest it is. No source
    code of the network is needed.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())

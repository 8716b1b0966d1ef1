"""The command line: each command is a module of this package."""

from __future__ import annotations

import os
import sys
import traceback
from typing import List, Optional, Sequence

import click

from graphslim._version import __version__
from graphslim.cli import (
    bench,
    compare,
    criteria,
    inspect,
    optimize,
    passes,
    plan,
    plan_diff,
    prune,
    soft_prune,
    strip,
    summary,
    verify,
)
from graphslim.cli.console import BAD_INPUT, FAILED, INTERRUPTED, OK, PIPE
from graphslim.errors import GraphslimError, VerifyError


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

    MODEL is a frozen GraphDef, .pb or .pbtxt, the folder of a SavedModel, or a TF1 checkpoint with
    its MetaGraph: the prefix of its files, one of them, or the folder whose latest it is. No source
    code of the network is needed.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    inspect.inspect,
    prune.prune,
    plan.plan,
    plan.apply,
    plan_diff.plan_diff,
    soft_prune.soft_prune,
    summary.summary,
    strip.strip,
    optimize.optimize,
    compare.compare,
    verify.verify,
    bench.bench,
    passes.list_passes,
    criteria.list_criteria,
):
    cli.add_command(_command)

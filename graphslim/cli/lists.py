"""`graphslim criteria` and `graphslim passes`: what --criterion and --pass take."""

from __future__ import annotations

from typing import Any, Dict

import click

from graphslim.cli import console
from graphslim.cli.console import print_pairs
from graphslim.criteria import criteria
from graphslim.pipeline import passes


@click.command(name="criteria", short_help="List the criteria for --criterion.")
def list_criteria() -> int:
    """List the criteria that --criterion takes, and what each measures."""
    sources = [(name, criterion.source) for name, criterion in sorted(criteria().items())]
    print_pairs(console.out, sources)
    return console.OK


@click.command(name="passes", short_help="List the passes for --pass.")
def list_passes() -> int:
    """List the passes that can be run with --pass."""
    known: Dict[str, Any] = passes()
    print_pairs(console.out, [(name, cls.summary()) for name, cls in sorted(known.items())])
    return console.OK

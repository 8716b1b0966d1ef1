"""The options of commands that measure what a network loses: by what, and on how many processes."""

from __future__ import annotations

from typing import Optional

import click

from graphslim.errors import GraphslimError
from graphslim.measure.samples import Samples
from graphslim.plans import Selection
from graphslim.support.workers import check_workers
from graphslim.sweep import NAMES, read_labels


def _workers(
    context: click.Context, option: click.Parameter, given: Optional[str]
) -> Optional[str]:
    """What `--workers` names, refused at once where it names nobody."""
    check_workers(given)
    return given


def samples_of(selection: Selection, samples: Samples, labels: Optional[str]) -> Samples:
    """The inputs by which channels are chosen, with the labels in a file.

    Raises:
        GraphslimError: the file cannot be read, or nothing asks for a loss.
    """
    measures = selection.max_loss is not None or selection.allocate is not None
    for option, given in (("--metric", samples.metric), ("--labels", labels)):
        if given is not None and not measures:
            raise GraphslimError(
                "no loss is measured to choose by",
                f"{option} {given}",
                "add --max-loss or --allocate, or leave it out",
            )
    return samples._replace(labels=read_labels(labels))


metric_option = click.option(
    "--metric",
    metavar="NAME",
    help=f"What a loss is: {', '.join(NAMES)}, module:function or file.py:function.  [default: "
    "error, or that of --allocate]",
)
labels_option = click.option(
    "--labels",
    metavar="L.npy",
    help="Labels, one for each example, for --metric accuracy or a function of outputs and labels.",
)
workers_option = click.option(
    "--workers",
    metavar="N",
    callback=_workers,
    help="Measure in N processes, or by the scheduler at dask://HOST:PORT.",
)

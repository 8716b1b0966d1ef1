"""The files and data that commands read and write, checked before any work is done."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import click

from graphslim import checkpoint, runtime
from graphslim.analysis.probe import switches
from graphslim.cli import console
from graphslim.cli.options import Reading
from graphslim.errors import EmitError, GraphslimError
from graphslim.graphdef import saved_model, tfjs
from graphslim.graphdef.emit import encoded
from graphslim.graphdef.kinds import check_ending, check_graph_ending
from graphslim.ir import Graph
from graphslim.measure.images import Images
from graphslim.measure.norm_statistics import cautions_about
from graphslim.measure.samples import Examples, Samples, switch_line
from graphslim.plans import Plan
from graphslim.rewrite.save import check_consistent
from graphslim.support.writing import check_target, replacing

_ENDINGS: Mapping[str, Tuple[Sequence[str], str]] = {
    "--plan-out": ((".json",), "a plan"),
    "--report": ((".html", ".htm"), "a page"),
}
"""By option, the endings of the file that it writes, and the kind of the file."""

output_option = click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT.pb",
    help="The new file: binary (.pb, or no ending) or text (.pbtxt); other endings are refused.",
)


def check_targets(
    output: str,
    beside: Mapping[str, Optional[str]],
    inputs: Sequence[Optional[str]],
    force: bool,
) -> None:
    """Refuses, before any work is done, outputs that cannot be written or are inputs.

    Args:
        output: the output of the command.
        beside: by option, the further files that the command writes.
        inputs: the files that the command reads.
        force: whether an input may be written over.

    Raises:
        EmitError: an output cannot be written, or is an input or another output.
    """
    named = {option: path for option, path in beside.items() if path is not None}
    option_at = {os.path.realpath(output): "the output"}
    for target in [output, *named.values()]:
        check_target(target)
        for source in inputs:
            if not force and source is not None and _same_file(target, source):
                raise EmitError(
                    "is the input itself", target, "choose another name, or give --force"
                )
    for option, path in named.items():
        first_option = option_at.setdefault(os.path.realpath(path), option)
        if first_option != option:
            raise EmitError(f"is {first_option} too", f"{option} {path}", "choose another name")
        if option in _ENDINGS:
            check_ending(path, *_ENDINGS[option])


def check_graph_target(output: str, model: str, reading: Reading) -> None:
    """Refuses, before any work is done, to write a graph under the name of another kind of file.

    Raises:
        EmitError: the output's ending is that of another kind of file. The hint is the converter's
            command, in which the inputs and outputs of a frozen model are named.
    """
    try:
        check_graph_ending(output)
    except EmitError:
        inputs, outputs = reading.inputs, reading.outputs
        with contextlib.suppress(GraphslimError):
            if os.path.isfile(model) and not (inputs and outputs):
                graph = reading.load(model)
                inputs, outputs = graph.inputs, [str(port) for port in graph.outputs]
        check_graph_ending(output, inputs or (), outputs or ())


def files_of(model: str, reading: Reading) -> List[str]:
    """A model's path, the files of a SavedModel or checkpoint that it means, and MetaGraphs given.

    Raises:
        LoadError: a folder's latest checkpoint is not there.
    """
    metas = [path for path in (reading.meta, reading.inference_meta) if path is not None]
    files = [model, *saved_model.files_of(model), *tfjs.files_of(model)]
    return [*files, *checkpoint.files_of(model), *metas]


def _same_file(first: str, second: str) -> bool:
    return os.path.exists(first) and os.path.exists(second) and os.path.samefile(first, second)


@contextlib.contextmanager
def placing(*outputs: Tuple[Optional[str], Union[None, Graph, Plan, str]]) -> Iterator[None]:
    """Writes files beside their targets; they are renamed when the block ends without an error.

    Args:
        *outputs: pairs of a path and its content: a graph, a plan or a text. Pairs with a None are
            passed over.

    Raises:
        EmitError: one of the files cannot be written; then none of them is.
    """
    with contextlib.ExitStack() as stack:
        for path, content in outputs:
            if path is None or content is None:
                continue
            file = stack.enter_context(replacing(path))
            for chunk in _chunks(path, content):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        yield


def _chunks(path: str, content: Union[Graph, Plan, str]) -> Iterator[Any]:
    """The bytes of a file, in parts."""
    if isinstance(content, Graph):
        check_consistent(content)
        yield from encoded(content, path)
    else:
        text = content.to_json() if isinstance(content, Plan) else content
        yield text.encode("utf-8")


def path_of(data: Optional[Images]) -> Optional[str]:
    """The path of the data; None if no data are given."""
    return None if data is None else data.path


def tell_data(graph: Graph, data: Optional[Images], batch: int = 1, runs: bool = True) -> None:
    """Prints on stderr the inputs that a graph is run on, and how they differ from training's.

    Args:
        graph: the graph.
        data: the data; of random inputs only switches between training and inference are printed.
        batch: examples per run, where the graph leaves that open.
        runs: whether the graph is run at all; data are checked either way.

    Raises:
        GraphslimError: the data cannot be read, or do not fit the graph.
    """
    if data is not None:
        examples = Examples(graph, Samples(data, batch=batch))
        lines = examples.about.lines()
        if runs and runtime.available():
            lines += [f"caution: {caution}" for caution in cautions_about(graph, examples)]
    else:
        lines = [switch_line(name, value) for name, value in switches(graph).items()]
    for line in lines if runs or data is not None else ():
        console.err.print(line)

"""The models, data and files that commands read and write, checked before any work is done."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import click

from graphslim import checkpoint, runtime
from graphslim.analysis.cautions import cautions
from graphslim.analysis.probe import switches
from graphslim.cli import console
from graphslim.cli.options import Reading
from graphslim.delivery.formats import Package
from graphslim.engines import RUNTIMES, format_of
from graphslim.errors import EmitError, GraphslimError
from graphslim.graphdef import saved_model, tfjs
from graphslim.graphdef.emit import encoded
from graphslim.graphdef.kinds import check_ending
from graphslim.ir import Graph
from graphslim.measure.images import Images
from graphslim.measure.norm_statistics import cautions_about
from graphslim.measure.opened import Model, Opening
from graphslim.measure.samples import Examples, Samples, switch_line
from graphslim.plans import Plan
from graphslim.rewrite.save import check_consistent
from graphslim.support.writing import check_target, replacing

_ENDINGS: Mapping[str, Tuple[Sequence[str], str]] = {
    "--plan-out": ((".json",), "a plan"),
    "--report": ((".html", ".htm"), "a page"),
}
"""By option, the endings of the file that it writes, and the kind of the file."""
_OUTPUT = "the output"
"""What messages call the file of `-o` beside those of other options."""

output_option = click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT.pb",
    help="The new file: a graph (.pb, .pbtxt, or no ending), a TensorFlow Lite model (.tflite), an "
    "ONNX model (.onnx), or a folder, with a slash at its end, for a SavedModel.",
)
graph_output_option = click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT.pb",
    help="The new file: binary (.pb, or no ending) or text (.pbtxt); other endings are refused.",
)
force_option = click.option("--force", is_flag=True, help="Allow OUT to be MODEL itself.")


def check_targets(
    output: Optional[str],
    beside: Mapping[str, Optional[str]],
    inputs: Sequence[Optional[str]],
    force: Optional[bool],
    check: Callable[[str], None] = check_target,
) -> None:
    """Refuses, before any work is done, outputs that cannot be written or are inputs.

    Args:
        output: the output of the command; None where it writes none.
        beside: by option, the further files that the command writes.
        inputs: the files that the command reads.
        force: whether an input may be written over; None where the command has no `--force`.
        check: refuses a place that the output cannot be written to.

    Raises:
        EmitError: an output cannot be written, or is an input or another output.
    """
    given = {_OUTPUT: output, **beside}
    named = {option: path for option, path in given.items() if path is not None}
    for option, target in named.items():
        (check if option == _OUTPUT else check_target)(target)
    for target in named.values():
        for source in inputs:
            if not force and source is not None and _same_file(target, source):
                hint = "choose another name" + ("" if force is None else ", or give --force")
                raise EmitError("is the input itself", target, hint)
    option_at: Dict[str, str] = {}
    for option, path in named.items():
        first_option = option_at.setdefault(os.path.realpath(path), option)
        if first_option != option:
            raise EmitError(f"is {first_option} too", f"{option} {path}", "choose another name")
        if option in _ENDINGS:
            check_ending(path, *_ENDINGS[option])


def files_of(model: str, reading: Reading) -> List[str]:
    """A model's path, the files of a SavedModel or checkpoint that it means, and MetaGraphs given.

    Raises:
        LoadError: a folder's latest checkpoint is not there.
    """
    metas = [path for path in (reading.meta, reading.inference_meta) if path is not None]
    folder = saved_model.folder_of(model)
    read = (saved_model.files_of, tfjs.files_of, checkpoint.files_of)
    files = [path for files_of_kind in read for path in files_of_kind(model)]
    return [model, *([] if folder is None else [folder]), *files, *metas]


def _same_file(first: str, second: str) -> bool:
    return os.path.exists(first) and os.path.exists(second) and os.path.samefile(first, second)


@contextlib.contextmanager
def placing(
    *outputs: Tuple[Optional[str], Union[None, Graph, Plan, Package, str]],
) -> Iterator[None]:
    """Writes files beside their targets; they are renamed when the block ends without an error.

    Args:
        *outputs: pairs of a path and its content: a graph, a plan, converted files or a text.
            Pairs with a None are passed over.

    Raises:
        EmitError: one of the files cannot be written; then none of them is.
    """
    with contextlib.ExitStack() as stack:
        for path, content in outputs:
            if path is None or content is None:
                continue
            if isinstance(content, Package):
                stack.enter_context(content.placing())
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


def tell_model(graph: Graph, data: Optional[Images], batch: int, runs: bool = True) -> None:
    """Prints on stderr the cautions about a graph, and what `tell_data` does."""
    console.tell_cautions(cautions(graph))
    tell_data(graph, data, batch, runs)


def tell_data(graph: Graph, data: Optional[Images], batch: int, runs: bool = True) -> None:
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


# --- Models of any format: which runtime runs each, and how they are read.

runtime_option = click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    help="The runtime for those models that it can run.  [default: tf for graphs and SavedModels, "
    "tflite for .tflite, ort for .onnx]",
)
"""The option of commands that run models in the runtime of their format."""
_FILES = ("tflite", "onnx")
"""The formats that hold no graph of TensorFlow's."""


def are_graphs(paths: Sequence[str], runtime: Optional[str]) -> bool:
    """Whether models are all graphs, to be run by TensorFlow."""
    formats = [format_of(path) for path in paths]
    return runtime in (None, "tf") and not any(kind in _FILES for kind in formats)


def models_of(paths: Sequence[str], runtime: Optional[str], reading: Reading) -> List[Model]:
    """The models: graphs are read, and paths of what another runtime reads are left as they are.

    Raises:
        GraphslimError: a graph cannot be read, or options name parts of graphs where there is none.
    """
    models: List[Model] = []
    for path in paths:
        kind = format_of(path)
        foreign = kind in _FILES or (runtime == "openvino" and kind != "other")
        models.append(path if foreign else reading.load(path))
    words = [word for word in reading._replace(input_shapes={}).words() if word[:2] == "--"]
    if words and not any(isinstance(model, Graph) for model in models):
        raise GraphslimError(
            "names parts of a graph, and none is read here", words[0], "leave it out"
        )
    return models


def opening_of(runtime: Optional[str], threads: int, reading: Reading) -> Opening:
    """How the models are opened."""
    return Opening(runtime, threads, reading.input_shapes)

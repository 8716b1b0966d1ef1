"""The options that several commands share, read from the command line into values."""

from __future__ import annotations

import functools
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
)

import click

from graphslim import runtime
from graphslim.api import load
from graphslim.checkpoint import prefix_of
from graphslim.cli import console
from graphslim.cli.option_types import (
    Finite,
    Numbers,
    names_of,
    objects_of,
    shapes_of,
    whole_number,
)
from graphslim.errors import LoadError
from graphslim.graphdef import saved_model, tfjs
from graphslim.graphdef.kinds import keras_container
from graphslim.graphdef.signature import settle
from graphslim.ir import Graph, Port
from graphslim.measure.images import Images, option_of
from graphslim.plans import Plan
from graphslim.support.importing import load_plugins

if TYPE_CHECKING:
    from graphslim.checkpoint import Trained


Command = Callable[..., Any]
_SAMPLES = "Inputs to run on"
"""The heading of options of sample inputs."""


class Reading(NamedTuple):
    """How models are read."""

    inputs: List[str]
    outputs: List[str]
    input_shapes: Dict[str, List[Optional[int]]]
    signature: Optional[str]
    tags: List[str]
    meta: Optional[str]
    inference_meta: Optional[str]
    averages: bool
    custom_objects: List[str]

    def words(self) -> List[str]:
        """The options as they can be given on a command line."""
        shapes = [
            f"{name}={_sizes(sizes)}" if name else _sizes(sizes)
            for name, sizes in self.input_shapes.items()
        ]
        given = [
            *[("--inputs", ",".join(self.inputs)), ("--outputs", ",".join(self.outputs))],
            *[("--input-shape", shape) for shape in shapes],
            *[("--signature", self.signature), ("--tag", ",".join(self.tags))],
            *[("--meta", self.meta), ("--inference-meta", self.inference_meta)],
            *[("--custom-objects", text) for text in self.custom_objects],
        ]
        options = [word for option, value in given if value for word in (option, value)]
        return [*options, "--averages"] if self.averages else options

    def load(self, path: str) -> Graph:
        """Reads a model.

        Raises:
            LoadError: the path holds no model, or the options do not fit it.
        """
        _prepare(path)
        load_plugins()  # the rules of ops that they bring
        return load(path, **self._asdict())

    def open(self, prefix: str) -> Trained:
        """Opens a checkpoint.

        Raises:
            LoadError: the path holds no model, or the options do not fit it.
            RuntimeUnavailable: TensorFlow is not there to read it.
        """
        if self.tags:
            raise LoadError(f"{prefix} is no SavedModel", "--tag", "leave it out")
        _prepare(prefix)
        if self.custom_objects:
            raise LoadError(f"{prefix} is no Keras model", "--custom-objects", "leave it out")
        given = self._asdict()
        for name in ("tags", "custom_objects"):
            given.pop(name)
        from graphslim.checkpoint import open_checkpoint

        return open_checkpoint(prefix, **given)

    def load_pair(self, first: str, second: str) -> Tuple[Graph, Graph]:
        """Reads two models to be compared.

        The inputs and outputs of a SavedModel's signature, or of a checkpoint, are those of a graph
        that was frozen from it too, if it has them. What only a SavedModel or a checkpoint takes is
        for the one of the two that is such a model.

        Raises:
            LoadError: a path holds no model, or the options do not fit it.
        """
        known = [_has_variables(path) for path in (first, second)]
        original = self._for(first, second).load(first)
        changed = self._for(second, first).load(second)
        if known[0] != known[1]:
            source, frozen = (original, changed) if known[0] else (changed, original)
            names = [str(port) for port in source.outputs]
            if all(Port.parse(name).node in frozen for name in [*source.inputs, *names]):
                settle(frozen, source.inputs, names, self.input_shapes)
        return original, changed

    def _for(self, path: str, beside: str) -> Reading:
        """This, without what only the other of two models takes."""
        kinds = [(_saved(name), prefix_of(name) is not None) for name in (path, beside)]
        reading = self
        if kinds[1][0] and not kinds[0][0]:
            reading = reading._replace(tags=[], signature=None)
        if kinds[1][1] and not kinds[0][1]:
            reading = reading._replace(meta=None, inference_meta=None, averages=False)
            if not kinds[0][0]:
                reading = reading._replace(signature=None)
        if keras_container(path) is None and keras_container(beside) is not None:
            reading = reading._replace(custom_objects=[])
        return reading


def _sizes(sizes: Sequence[Optional[int]]) -> str:
    return ",".join(["?" if size is None else str(size) for size in sizes])


def _saved(path: str) -> bool:
    return saved_model.folder_of(path) is not None


def _has_variables(path: str) -> bool:
    named = _saved(path) or keras_container(path) is not None or tfjs.file_of(path) is not None
    return named or prefix_of(path) is not None


def _prepare(path: str) -> None:
    """Has TensorFlow loaded as commands want it: now, if a checkpoint would load it as it is."""
    runtime.import_for_command(lambda: console.tell_waiting("loading TensorFlow"))
    if prefix_of(path) is not None and runtime.available():
        runtime.tensorflow()


def words_of(data: Images) -> List[str]:
    """The options of sample inputs as they can be given on a command line."""
    words = ["--data", data.path]
    for name in ("image_range", "mean", "scale", "limit"):
        value = getattr(data, name)
        if value is not None:
            numbers = value if isinstance(value, tuple) else (value,)
            words += [option_of(name), ",".join(map(str, numbers))]
    if data.bgr is not None:
        words.append("--bgr" if data.bgr else "--rgb")
    return [*words, "--crop"] if data.crop else words


class Running(NamedTuple):
    """How graphs are run."""

    data: Optional[Images]
    seed: int
    batch: int
    tolerance: Optional[float]

    def compare(self, first: Graph, second: Graph, plan: Optional[Plan] = None, **more: Any) -> Any:
        """Runs both graphs on all inputs; gives their `Agreement`.

        Args:
            first, second, plan: as for `verify`.
            **more: its `force` and `progress`.

        Raises:
            GraphslimError: the data cannot be read, or a graph does not run.
        """
        from graphslim.measure.verify import verify

        return verify(first, second, plan=plan, **self._asdict(), **more)

    def check(self, first: Graph, second: Graph, plan: Plan, **more: Any) -> Tuple[Any, Any]:
        """Runs a graph pruned by a plan, the masked original and the original on all inputs.

        The arguments are those of `compare`; gives what `verify.check` does, and raises it.
        """
        from graphslim.measure.verify import check

        return check(first, second, plan, **self._asdict(), **more)


def packed(command: Command, name: str, kind: Type[Any]) -> Command:
    """Hands the fields of `kind` to a command as one argument."""

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        fields = {field: given.pop(field) for field in kind._fields}
        return command(**{name: kind(**fields)}, **given)

    return call


def combined(command: Command, *options: Command, heading: str = "Options") -> Command:
    """A command with options, which its help lists in this order, under a heading."""
    known = len(getattr(command, "__click_params__", ()))
    for option in reversed(options):
        command = option(command)
    for param in command.__click_params__[known:]:  # type: ignore[attr-defined]
        param.heading = heading
    return command


def under(heading: str, *options: Command) -> Callable[[Command], Command]:
    """What gives a command options under a heading."""
    return lambda command: combined(command, *options, heading=heading)


class Sectioned(click.Command):
    """A command whose help lists options under the headings that `combined` gave them."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes a section for each heading, in the order of the options that begin them."""
        sections: Dict[str, List[Tuple[str, str]]] = {"Options": []}
        for param in self.get_params(context):
            row = param.get_help_record(context)
            if row is not None:
                sections.setdefault(getattr(param, "heading", "Options"), []).append(row)
        general = sections.pop("Options")
        for heading, rows in (("Options", general), *sections.items()):
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def model_options(command: Command) -> Command:
    """The options of every command on a model; the command gets a `Reading` as `reading`."""
    command = combined(
        command,
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables."),
        click.option("-v", "--verbose", is_flag=True, help="Say more, on stderr."),
        click.option("--debug", is_flag=True, expose_value=False, help="Print tracebacks too."),
    )
    return combined(
        packed(command, "reading", Reading),
        click.option(
            "--inputs",
            multiple=True,
            callback=names_of,
            metavar="NAME,...",
            help="Nodes that are fed.  [default: the placeholders]",
        ),
        click.option(
            "--outputs",
            multiple=True,
            callback=names_of,
            metavar="NAME,...",
            help="What to compute.  [default: the tensors that nothing reads]",
        ),
        click.option(
            "--input-shape",
            "input_shapes",
            multiple=True,
            callback=shapes_of,
            metavar="[NAME=]1,224,224,3",
            help="The shape of an input that the file leaves open; NAME where there are several "
            "inputs.",
        ),
        click.option(
            "--signature",
            metavar="NAME",
            help="The signature of a SavedModel or MetaGraph to read.  [default: serving_default, "
            "or the only one]",
        ),
        click.option(
            "--tag",
            "tags",
            multiple=True,
            callback=names_of,
            metavar="TAG,...",
            help="The tags of the graph in a SavedModel.  [default: serve, or the only graph]",
        ),
        click.option(
            "--meta",
            metavar="FILE",
            help="The MetaGraph of a checkpoint.  [default: the .meta beside it]",
        ),
        click.option(
            "--inference-meta",
            metavar="FILE",
            help="The MetaGraph for inference of a checkpoint.  [default: made from --meta]",
        ),
        click.option(
            "--averages",
            is_flag=True,
            help="Read a checkpoint's moving averages in place of the variables themselves.",
        ),
        click.option(
            "--custom-objects",
            multiple=True,
            callback=objects_of,
            metavar="MODULE:NAME,...",
            help="Classes and functions that a Keras model refers to beside Keras's own, and the "
            "module or file.py that defines them.",
        ),
        heading="Reading models",
    )


def sample_options(command: Command) -> Command:
    """The options of inputs alone: the command gets `data` (`Images` or None), `seed`, `batch`."""
    return combined(_with_data(command), *_samples(), heading=_SAMPLES)


def _with_data(command: Command) -> Command:
    """Hands the options of data to a command as one `Images`, None where no data are given."""

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        images = Images(given.pop("data"), *[given.pop(name) for name in Images._fields[1:]])
        if images.path is None:
            images.refuse_options("there is no --data")
        return command(data=None if images.path is None else images, **given)

    return call


def _samples() -> List[Command]:
    return [
        click.option(
            "--data",
            metavar="PATH",
            help="Inputs: an .npz, an .npy, an image, or a folder of images and of folders of "
            "them.  [default: seeded random data]",
        ),
        *_image_options(),
        click.option(
            "--seed",
            default=0,
            show_default=True,
            type=click.IntRange(0, 2**32 - 1),
            metavar="N",
            help="Seed of the random data, and of all else that is drawn.",
        ),
        whole_number("--batch", 1, 1, "Examples per run, where the batch is open."),
    ]


def _image_options() -> List[Command]:
    """What is done to images; see `measure.images.Images`."""
    return [
        click.option(
            "--image-range",
            type=Numbers(2),
            metavar="LOW,HIGH",
            help="What black and white become.  [default: as the graph says, else -1,1]",
        ),
        click.option(
            "--mean",
            type=Numbers(1, 3),
            metavar="R,G,B",
            help="Instead of --image-range: images become (pixel - mean) * scale, with pixels of "
            "0 to 255, and one mean for all colours or one for each.  [default: 0]",
        ),
        click.option(
            "--scale",
            type=float,
            metavar="S",
            help="The scale of that formula, such as 0.0078125.  [default: 1]",
        ),
        click.option(
            "--bgr/--rgb",
            default=None,
            help="The order of colours.  [default: as the graph says, else rgb]",
        ),
        click.option(
            "--crop",
            is_flag=True,
            help="Keep the aspect ratio of images: resize the short side, take the centre.  "
            "[default: stretch them]",
        ),
        whole_number(
            "--limit",
            1,
            None,
            "Use N images at most, spread evenly over their sorted names.  [default: all]",
        ),
    ]


def run_options(command: Command) -> Command:
    """The options of commands that run graphs; the command gets a `Running` as `running`."""
    return combined(
        _with_data(packed(command, "running", Running)),
        *_samples(),
        click.option(
            "--tolerance",
            type=Finite(),
            metavar="T",
            help="Largest difference allowed, as a share of each output's range.  [default: "
            "0.0001, and more for a graph in 16 bits or frozen in training, or between two "
            "runtimes]",
        ),
        heading=_SAMPLES,
    )

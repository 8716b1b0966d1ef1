"""Keras models: loaded by the Keras that is installed, and traced into a graph with variables."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import sys
import warnings
import zipfile
from importlib import import_module
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.errors import LoadError, RuntimeUnavailable
from graphslim.graphdef.kinds import keras_container
from graphslim.graphdef.saved_model import Chosen
from graphslim.ir import Port
from graphslim.ir.families import VARIABLES
from graphslim.runtime.checkpoint import value_of
from graphslim.runtime.library import available, first_line, install_hint, tensorflow, unoptimized
from graphslim.support.importing import user_object

CustomObjects = Union[Mapping[str, Any], Sequence[str]]
"""What a Keras model refers to beside Keras's own: by name, or texts `module:NAME,NAME`."""
Values = Callable[[str, Sequence[str], Sequence[str]], Mapping[str, np.ndarray]]
"""Gives variables by the names of their nodes, as `saved_variables` does."""

_OPTION = "--custom-objects"
_FORM = "write package.module:NAME,NAME or file.py:NAME,NAME"
_ENDINGS = {"zip": (".keras",), "HDF5": (".h5", ".hdf5")}
_LARGEST = 1 << 26
"""Bytes of the largest description of a model that is read from a zip file."""
_UNKNOWN = re.compile(
    r"(?:Unknown|Could not locate) (?:\w+ )??(\w+):? '?([\w>.]+)'?(?= |\.|$)", re.IGNORECASE
)
"""What Keras says of a class or function that it does not know."""
_OF_KERAS_2 = "`pip install tf_keras` for files of Keras 2"
_ELSEWHERE = "in that Keras export a SavedModel, and give its folder"


def traced(path: str, custom_objects: Optional[CustomObjects] = None) -> Tuple[Chosen, Values]:
    """The graph of a Keras model as it infers, with variables, and what gives their values.

    The model is not compiled, and Python code that the file itself holds is not run.

    Args:
        path: the `.keras`, `.h5` or `.hdf5` file.
        custom_objects: classes and functions that the model refers to beside Keras's own.

    Raises:
        LoadError: the file is damaged, holds weights alone or code, needs custom objects, or is
            refused by the Keras that is installed.
        RuntimeUnavailable: TensorFlow or Keras is not there.
    """
    if not available():
        raise RuntimeUnavailable(
            "TensorFlow is not installed", "Keras models are read with it", install_hint("tf")
        )
    container = keras_container(path) or "zip"
    if not path.lower().endswith(_ENDINGS[container]):
        raise LoadError(
            "a Keras model by another name",
            path,
            f"let its name end with {_ENDINGS[container][0]}",
        )
    _refuse_code(_description(path, container), path)
    tf = tensorflow()
    if tf.__version__.startswith("1.") and container == "zip":
        raise LoadError(
            f"TensorFlow {tf.__version__} reads no .keras files",
            path,
            "export a SavedModel where it was made, and give its folder",
        )
    keras = _keras(tf)
    objects = _objects(custom_objects or {})
    trace = _by_session if tf.__version__.startswith("1.") else _by_function
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trace(tf, keras, path, objects)


def _description(path: str, container: str) -> Any:
    """What the file says of the model's layers, a tree.

    Raises:
        LoadError: the file is damaged, or has weights alone.
        RuntimeUnavailable: what reads HDF5 is not installed.
    """
    try:
        if container == "zip":
            with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
                return json.loads(file.read(_LARGEST))
        with import_module("h5py").File(path, "r") as file:
            text = file.attrs.get("model_config")
        if text is not None:
            return json.loads(text)
    except ImportError:
        raise RuntimeUnavailable("h5py is not installed", path, "pip install h5py") from None
    except Exception as error:  # zipfile, h5py and json raise many kinds
        raise LoadError(
            f"a damaged {container} file: {first_line(error)}", path, "download or copy it again"
        ) from None
    raise LoadError(
        "holds weights and no model", path, "save it with model.save(...), and give that"
    )


def _refuse_code(tree: Any, path: str) -> None:
    """Refuses functions that are stored as Python's bytecode, which older Keras would just run."""
    waiting = [tree]
    while waiting:
        branch = waiting.pop()
        if isinstance(branch, dict):
            kinds = [branch.get(key) for key in ("function_type", "output_shape_type")]
            if "lambda" in kinds or branch.get("class_name") == "__lambda__":
                raise LoadError(
                    "holds Python code of its own (a lambda), which is not run",
                    path,
                    "if you trust it, load it in Keras with safe_mode=False, and give the folder "
                    "that model.export(...) writes",
                )
            waiting += branch.values()
        elif isinstance(branch, list):
            waiting += branch


def _objects(custom_objects: CustomObjects) -> Dict[str, Any]:
    """Custom objects by name.

    Raises:
        LoadError: a module or a name in it is not there.
    """
    if isinstance(custom_objects, Mapping):
        return dict(custom_objects)
    objects: Dict[str, Any] = {}
    for text in custom_objects:
        place, _, names = text.rpartition(":")
        for name in names.split(","):
            objects[name] = user_object(f"{place}:{name}", _OPTION, LoadError, "NAME,NAME")
    return objects


def _keras(tf: Any) -> Any:
    """The Keras that goes with the TensorFlow that is installed.

    Raises:
        RuntimeUnavailable: it is not there, or runs on something else than TensorFlow.
    """
    if tf.__version__.startswith("1."):
        return tf.keras
    with _variable("KERAS_BACKEND", "tensorflow"):
        try:
            keras = import_module("keras")
        except Exception as error:  # a broken install may raise anything
            raise RuntimeUnavailable(
                f"Keras does not load: {first_line(error)}", sys.executable, "pip install keras"
            ) from error
    if getattr(keras.backend, "backend", lambda: "tensorflow")() != "tensorflow":
        raise RuntimeUnavailable(
            f"Keras runs on {keras.backend.backend()} here, and makes no TensorFlow graph",
            "KERAS_BACKEND",
            "set it to tensorflow before Keras is imported",
        )
    return keras


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _loaded(keras: Any, path: str, objects: Mapping[str, Any]) -> Any:
    """The model of a file.

    Raises:
        LoadError: Keras refuses it.
    """
    loaders = [keras]
    if keras.__version__.startswith("3.") and importlib.util.find_spec("tf_keras") is not None:
        loaders.append(import_module("tf_keras"))  # for files of Keras 2
    refused: List[Exception] = []
    for loader in loaders:
        try:
            return loader.models.load_model(path, custom_objects=objects, compile=False)
        except Exception as error:  # a layer may raise anything
            refused.append(error)
    first, version = refused[0], keras.__version__
    is_newest_alone = len(loaders) == 1 and version.startswith("3.")
    elsewhere = f"{_OF_KERAS_2}, or {_ELSEWHERE}" if is_newest_alone else _ELSEWHERE
    unknown = _UNKNOWN.search(str(first))
    if unknown is not None:
        name = unknown[2].split(">")[-1]  # it may be registered below a package
        raise LoadError(
            f"Keras {version} does not know the {unknown[1].lower()} {name}",
            path,
            f"name the module that defines it: {_OPTION} package.module:{name}; "
            f"where another Keras saved it, {elsewhere}",
        ) from first
    raise LoadError(
        f"Keras {version} cannot load it: {first_line(first)}",
        path,
        f"was it saved by another Keras? {elsewhere}",
    ) from first


def _by_session(
    tf: Any, keras: Any, path: str, objects: Mapping[str, Any]
) -> Tuple[Chosen, Values]:
    """As `traced`, by TensorFlow 1, in a graph and a session of its own."""
    holder = tf.Graph()
    with holder.as_default(), tf.Session(config=unoptimized(tf)) as session:
        keras.backend.set_learning_phase(0)
        with _attributes_as_bytes():
            model = _loaded(keras, path, objects)
        if not model.inputs:
            raise _without_inputs(path)
        definition = holder.as_graph_def()
        names = [node.name for node in definition.node if node.op in VARIABLES]
        values = session.run({name: value_of(tf, holder, name) for name in names})
        fed = {tensor.op.name: tensor.name for tensor in model.inputs}
        computed = dict(zip(model.output_names, [tensor.name for tensor in model.outputs]))
    return _chosen(definition, fed, computed), lambda folder, tags, names: values


@contextlib.contextmanager
def _attributes_as_bytes() -> Iterator[None]:
    """Has h5py give texts as bytes: it did before 3.0, and Keras of TensorFlow 1 expects it."""
    manager = import_module("h5py").AttributeManager
    usual = manager.__getitem__

    def as_bytes(attributes: Any, name: str) -> Any:
        value = usual(attributes, name)
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            return np.array([encoded(text) for text in value.ravel()], object)
        return encoded(value)

    def encoded(value: Any) -> Any:
        return value.encode("utf-8") if isinstance(value, str) else value

    manager.__getitem__ = as_bytes
    try:
        yield
    finally:
        manager.__getitem__ = usual


def _by_function(
    tf: Any, keras: Any, path: str, objects: Mapping[str, Any]
) -> Tuple[Chosen, Values]:
    """As `traced`, by a function of TensorFlow 2."""
    model = _loaded(keras, path, objects)
    specs = _specs(tf, model)
    if not specs:
        raise _without_inputs(path)
    computed: Dict[str, str] = {}

    def call(*fed: Any) -> None:
        results = model(list(fed) if len(fed) > 1 else fed[0], training=False)
        for name, result in _named(tf, model, results).items():
            # TensorFlow takes fewer characters for names than Keras.
            clean_name = re.sub(r"^[^A-Za-z0-9.]|[^\w.]", "_", name).lstrip("_") or "output"
            computed[name] = tf.identity(result, name=clean_name).name

    try:
        function = sys.modules["tensorflow"].function(call, autograph=False)
        graph = function.get_concrete_function(*specs).graph
        definition = graph.as_graph_def()
        nodes = {node.name: node for node in definition.node}
        variables = {id(variable.handle): variable for variable in graph.variables}
        values: Dict[str, np.ndarray] = {}
        for outside, inside in graph.captures:
            node = nodes[inside.op.name]
            variable = variables.get(id(outside))
            if variable is not None:
                node.op = "VarHandleOp"
                node.attr["dtype"].type = variable.dtype.as_datatype_enum
                node.attr["shape"].shape.CopyFrom(variable.shape.as_proto())
                values[node.name] = variable.numpy()
            elif outside.dtype is tf.resource:
                raise LoadError(
                    f"{node.name} is a resource that cannot be frozen, such as a lookup table",
                    path,
                    "leave the layer that looks up out of the model",
                )
            else:
                node.op = "Const"
                node.attr.clear()
                node.attr["dtype"].type = outside.dtype.as_datatype_enum
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(outside.numpy()))
    except LoadError:
        raise
    except Exception as error:  # a layer may raise anything
        raise LoadError(
            f"Keras cannot make a graph of it: {first_line(error)}", path, _ELSEWHERE
        ) from error
    fed = {spec.name: tensor.name for spec, tensor in zip(specs, graph.inputs)}
    return _chosen(definition, fed, computed), lambda folder, tags, names: values


def _specs(tf: Any, model: Any) -> List[Any]:
    """What a model is fed: as it states, or what it was called on when it was saved; else none."""
    if getattr(model, "inputs", None):
        return [tf.TensorSpec(fed.shape, fed.dtype, fed.name) for fed in model.inputs]
    built: Mapping[str, Any] = getattr(model, "get_build_config", dict)() or {}
    shape = built.get("input_shape")
    if not isinstance(shape, (tuple, list)) or any(
        isinstance(size, (tuple, list)) for size in shape
    ):
        return []
    # The batch is that of the example.
    return [tf.TensorSpec((None, *shape[1:]), model.compute_dtype, "inputs")]


def _named(tf: Any, model: Any, results: Any) -> Dict[str, Any]:
    """A model's results by name."""
    if isinstance(results, dict):
        return results
    flat = tf.nest.flatten(results)
    names = getattr(model, "output_names", None) or []
    if len(names) != len(flat):
        names = [f"output_{index}" for index in range(len(flat))]
    return dict(zip(names, flat))


def _without_inputs(path: str) -> LoadError:
    return LoadError(
        "the model does not state its inputs: it was never called, or is of a class of its own",
        path,
        "call it on an example, export a SavedModel, and give its folder",
    )


def _chosen(definition: Any, fed: Mapping[str, str], computed: Mapping[str, str]) -> Chosen:
    """A graph with its inputs and outputs, whose tensors are given by their names in Keras."""
    sides = {
        side: {key: str(Port.parse(name)) for key, name in names.items()}
        for side, names in (("inputs", fed), ("outputs", computed))
    }
    return Chosen(
        (),
        definition.SerializeToString(deterministic=True),
        "serving_default",
        tuple(sides["inputs"].values()),
        tuple(dict.fromkeys(sides["outputs"].values())),
        sides,
    )

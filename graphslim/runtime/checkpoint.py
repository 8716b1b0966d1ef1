"""Values of variables: read from TF1 checkpoints and SavedModels one by one, and written."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from graphslim.errors import EmitError, LoadError
from graphslim.graphdef.values import decode_dtype
from graphslim.ir import DType, Tensor
from graphslim.runtime.library import first_line, plain_tensorflow, tensorflow, unoptimized
from graphslim.support.reading import require_regular

_PURPOSE = "checkpoints are read and written with it"
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The key that an object-based checkpoint of TF2 has."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


class Checkpoint:
    """The tensors of a checkpoint, in the format of TF 1.0 and later (V2) or before (V1).

    Nothing but names, shapes and element types is read until a tensor is asked for.

    Args:
        prefix: the path of its files without their endings.

    Attributes:
        prefix: that.
        shapes: by key, the shape; of a variable in several parts that of the whole.
        dtypes: by key, the element type.

    Raises:
        LoadError: there is no checkpoint, it is damaged or lacks a file, or it is of TF2's
            object-based kind.
        RuntimeUnavailable: TensorFlow is not there.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        files = checkpoint_files(prefix)
        if not files:
            raise LoadError(
                "no checkpoint of that name",
                prefix,
                "give the path of its .index and .data files without these endings",
            )
        for path in files:
            require_regular(path)
        tf = plain_tensorflow(_PURPOSE)
        # Which of Python's errors a reader raises depends on TensorFlow's version.
        python = (ValueError, RuntimeError, TypeError, LookupError, OSError)
        self._failures = (tf.errors.OpError, *python)
        try:
            self._reader = tf.train.NewCheckpointReader(prefix)
            shapes = self._reader.get_variable_to_shape_map()
            self._kinds = self._reader.get_variable_to_dtype_map()
        except self._failures as error:
            raise LoadError(
                f"the checkpoint cannot be read: {first_line(error)}", prefix, "copy it again"
            ) from None
        if _OBJECTS in shapes:
            raise LoadError(
                "a checkpoint of objects, as tf.train.Checkpoint and Keras write it",
                prefix,
                "save it with tf.compat.v1.train.Saver, or export a SavedModel and give that",
            )
        _check_shards(files, prefix)
        self.shapes: Mapping[str, Tuple[int, ...]] = {
            key: tuple(shapes[key]) for key in sorted(shapes)
        }
        self.dtypes: Mapping[str, DType] = {
            key: decode_dtype(self._kinds[key].as_datatype_enum) for key in self.shapes
        }

    def read(self, key: str) -> np.ndarray:
        """The elements of a tensor, in the element type that numpy has with TensorFlow.

        Raises:
            LoadError: there is no such key, or its bytes are damaged.
        """
        self._require(key)
        try:
            values = np.asarray(self._reader.get_tensor(key))
        except self._failures as error:
            raise LoadError(
                f"{key} cannot be read: {first_line(error)}", self.prefix, "copy it again"
            ) from None
        # Quantised elements come as plain integers, and would be written as such.
        kind = np.dtype(self._kinds[key].as_numpy_dtype)
        return values if values.dtype == kind or kind.hasobject else values.view(kind)

    def tensor(self, key: str) -> Tensor:
        """A tensor, read when its elements are asked for.

        Raises:
            LoadError: there is no such key.
        """
        self._require(key)
        dtype = self.dtypes[key]
        return Tensor(self.shapes[key], dtype, lambda: _stored(self.read(key), dtype))

    def _require(self, key: str) -> None:
        if key not in self.shapes:
            raise LoadError(f"no {key!r} in the checkpoint", self.prefix, "is it of another model?")

    def digest(self) -> bytes:
        """The SHA-256 of its index, which has a checksum of every tensor, or else of its files."""
        index = self.prefix + ".index"
        digest = hashlib.sha256()
        for path in [index] if os.path.isfile(index) else checkpoint_files(self.prefix):
            with open(path, "rb") as file:
                for chunk in iter(lambda: file.read(1 << 20), b""):
                    digest.update(chunk)
        return digest.digest()


def checkpoint_files(prefix: str) -> List[str]:
    """The files with a checkpoint's tensors: index and data, or those of the old format.

    Args:
        prefix: their path without the endings.
    """
    files = [prefix + ".index"] + glob.glob(glob.escape(prefix) + ".data-*-of-*")
    if os.path.exists(files[0]):
        return files
    shards = [path for path in glob.glob(glob.escape(prefix) + "-*-of-*") if _SHARD.search(path)]
    return sorted(shards) or ([prefix] if os.path.isfile(prefix) else [])


def _check_shards(files: List[str], prefix: str) -> None:
    """Refuses a checkpoint of which a data file is missing."""
    numbered = [re.fullmatch(r"(.*-)(\d{5})-of-(\d{5})", path) for path in files]
    shards = [match for match in numbered if match is not None]
    if not shards and files[0].endswith(".index"):
        missing = f"{prefix}.data-00000-of-00001"
        raise LoadError("a file of the checkpoint is missing", missing, "copy it too")
    for match in shards:
        for number in range(int(match[3])):
            path = f"{match[1]}{number:05d}-of-{match[3]}"
            if not os.path.isfile(path):
                raise LoadError("a file of the checkpoint is missing", path, "copy it too")


def _stored(values: np.ndarray, dtype: DType) -> np.ndarray:
    """Elements as the IR holds them: bfloat16 and quantised ones by their bits."""
    if values.dtype != dtype.storage and not dtype.storage.hasobject:
        return np.ascontiguousarray(values).view(dtype.storage).reshape(values.shape)
    return values


def write_checkpoint(prefix: str, values: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint (V2: an index, and one file of data).

    Args:
        prefix: the path of its files without their endings; the folder must be there.
        values: by key, the elements, of any type that `Checkpoint.read` gives; text as bytes.

    Raises:
        EmitError: the files cannot be written.
        RuntimeUnavailable: TensorFlow is not there.
    """
    tf = plain_tensorflow(_PURPOSE)
    keys = sorted(values)
    # No GPU: a training in the same process may own them all.
    config = unoptimized(tf, device_count={"GPU": 0})
    with tf.Graph().as_default(), tf.device("/cpu:0"), tf.Session(config=config) as session:
        feeds: Dict[Any, np.ndarray] = {}
        for key in keys:
            array = np.asarray(values[key])
            kind = tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype)
            feeds[tf.placeholder(kind, array.shape)] = array
        write = tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=keys,
            shape_and_slices=[""] * len(keys),
            tensors=list(feeds),
        )
        try:
            session.run(write, feeds)
        except (tf.errors.OpError, OSError) as error:
            raise EmitError(
                f"the checkpoint cannot be written: {first_line(error)}",
                prefix,
                "check the folder's permissions and space",
            ) from None


def saved_variables(
    folder: str, tags: Sequence[str], names: Sequence[str]
) -> Dict[str, np.ndarray]:
    """The values of variables of a SavedModel.

    Args:
        folder: the SavedModel.
        tags: those of the graph.
        names: names of `VarHandleOp` or `VariableV2` nodes of that graph.

    Raises:
        LoadError: TensorFlow cannot load the SavedModel, or the values are not there.
        RuntimeUnavailable: TensorFlow is not there.
    """
    if not os.path.isdir(os.path.join(folder, "variables")):
        raise LoadError("its variables are missing", folder, "copy its folder variables/ too")
    for place, _, files in os.walk(folder):
        for name in files:
            require_regular(os.path.join(place, name))
    tf = tensorflow("the variables of a SavedModel are read with it")
    holder = tf.Graph()
    config = unoptimized(tf, allow_soft_placement=True)
    failures = (tf.errors.OpError, ValueError, KeyError, TypeError, RuntimeError, OSError)
    with tf.Session(graph=holder, config=config) as session:
        try:
            tf.saved_model.loader.load(session, list(tags), folder)
            with holder.as_default():
                tensors = {name: value_of(tf, holder, name) for name in names}
            values: Dict[str, np.ndarray] = session.run(tensors)
        except failures as error:
            raise LoadError(
                f"TensorFlow {tf.__version__} cannot read its variables: {first_line(error)}",
                folder,
                "use the TensorFlow that exported it, and check that all its files are there",
            ) from error
    return values


def value_of(tf: Any, holder: Any, name: str) -> Any:
    """The tensor of a variable's value, given the name of its node."""
    node = holder.get_operation_by_name(name)
    if node.type != "VarHandleOp":
        return node.outputs[0]
    return tf.raw_ops.ReadVariableOp(resource=node.outputs[0], dtype=node.get_attr("dtype"))

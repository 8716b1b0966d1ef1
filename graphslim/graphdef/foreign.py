"""Files of other kinds that people give as models, told by their first bytes, and what to do."""

from __future__ import annotations

import io
import re
import zipfile
from typing import List, Optional, Tuple

_EXPORT = (
    'load it in Keras and give the folder that model.export("folder") writes; before Keras 3 that '
    'is model.save("folder")'
)
_CONVERT = (
    "convert it to TensorFlow (export it to ONNX, and that with onnx2tf), give the SavedModel"
)
_SOURCE = "give the SavedModel or the frozen .pb that it was converted from"

_KINDS: Tuple[Tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"....TFL3", re.DOTALL), "a TensorFlow Lite model", _SOURCE),
    (re.compile(rb"\x89HDF"), "a Keras model or weights in HDF5", _EXPORT),
    (re.compile(rb"\x1f\x8b"), "a gzip file", "unpack it and give the model that is in it"),
    (re.compile(rb"\x80[\x02-\x05]"), "a Python pickle, as PyTorch writes them", _CONVERT),
    # The version of the format, then the name of what wrote it, or the graph.
    (
        re.compile(rb"\x08[\x02-\x1f][\x12\x1a\x3a\x42]"),
        "an ONNX model",
        "give the SavedModel that onnx2tf makes of it",
    ),
)
_ZIP = b"PK\x03\x04"


def foreign(data: bytes) -> Optional[Tuple[str, str]]:
    """What a file of another kind is, and what to give instead of it; None for any other file."""
    if data.startswith(_ZIP):
        return _zipped(data)
    return next(((what, hint) for magic, what, hint in _KINDS if magic.match(data)), None)


def _zipped(data: bytes) -> Tuple[str, str]:
    """The same for a zip file, by the names of what is in it."""
    try:
        names: List[str] = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return "a zip file, and a damaged one", "download or copy it again"
    if "config.json" in names and "metadata.json" in names:
        return "a Keras model", _EXPORT
    if any(name.endswith("/data.pkl") for name in names):
        return "a PyTorch model", _CONVERT
    return "a zip file", "unpack it and give the model that is in it"

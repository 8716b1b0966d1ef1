"""What comes of whole networks that are pruned and delivered in one command, in each format.

    python -m benchmarks.deliveries [NETWORK...] [--folder FOLDER] [--photos FOLDER]

Networks of Keras are made with random weights, and read from `.keras` (`.h5` in TensorFlow 1.15).
Crops of the photographs of `photos.py`, or of those in the folder of --photos, calibrate int8
models and are compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from benchmarks import photos
from benchmarks.results import table
from benchmarks.runtimes import KERAS, published, shapes_of
from benchmarks.work import ROOT


class Format(NamedTuple):
    """A file that is asked for.

    Attributes:
        title: what the table calls it.
        name: of the file.
        words: the options that are for it.
    """

    title: str
    name: str
    words: Sequence[str]


FORMATS = (
    Format("TFLite", "slim.tflite", ("--for", "tflite")),
    Format("TFLite int8", "int8.tflite", ("--for", "tflite-int8", "--quantize", "int8")),
    Format("ONNX", "slim.onnx", ("--for", "ort")),
    Format("SavedModel", "slim/", ("--for", "tf")),
)
_CROPS, _SIDE = 30, 320
"""How many crops of photographs there are, and their height and width."""
_UNSCALED = ("MobileNetV2",)
"""The networks that want their images scaled to -1..1; the others do it themselves."""
_NORMS = ((0.3, 0.6), (-0.3, 0.5), (-0.2, 0.2), (0.5, 1.5))
_SPREAD = 3.0
"""What logits of random weights are made to vary by, as those of a trained network do."""


def crops_in(folder: Path, given: Optional[Path]) -> Path:
    """A folder of crops of photographs, made where need be.

    Raises:
        SystemExit: there are no photographs.
    """
    from PIL import Image

    place = folder / "photos"
    if not place.is_dir():
        try:
            pixels = photos.crops(given or photos.share_out()[0], _CROPS, (_SIDE, _SIDE))
        except LookupError as error:
            raise SystemExit(f"no photographs: install {error}, or give --photos FOLDER") from None
        place.mkdir(parents=True)
        for number, crop in enumerate(pixels):
            Image.fromarray(crop).save(str(place / f"{number:02d}.png"))
    return place


def make(name: str, folder: Path, data: Path) -> Path:
    """A network of Keras with random weights, whose outputs differ from photo to photo.

    Its batch norms have the means and variances of the photos.
    """
    import tensorflow as tf
    from PIL import Image

    keras = tf.keras
    path = folder / (f"{name}.h5" if tf.__version__.startswith("1.") else f"{name}.keras")
    if path.is_file():
        return path
    model = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))
    config = model.get_config()
    for layer in config["layers"]:
        if layer["class_name"].startswith("BatchNormalization"):
            layer["config"]["momentum"] = 0.0
    model = keras.Model.from_config(config)
    _draw(model)
    files = sorted(data.glob("*.png"))[::4]
    pixels = [np.array(Image.open(str(file)).resize((224, 224)), np.float32) for file in files]
    images = np.stack(pixels)
    if name in _UNSCALED:
        images = images / 127.5 - 1
    model.compile(keras.optimizers.SGD(learning_rate=0.0), "mse")
    model.train_on_batch(images, model.predict(images, verbose=0))
    logits = np.log(np.maximum(model.predict(images, verbose=0), 1e-30))
    last = model.layers[-1]
    last.set_weights([weight * (_SPREAD / logits.std(1).mean()) for weight in last.get_weights()])
    model.save(str(path), include_optimizer=False)
    return path


def _draw(model: Any) -> None:
    """Gives a model random weights, the same in every run."""
    rng = np.random.RandomState(0)
    for layer in model.layers:
        norm = type(layer).__name__.startswith("BatchNormalization")
        values = []
        for number, weight in enumerate(layer.get_weights()):
            if norm:  # gamma, beta, mean, variance; large ones would amplify each rounding
                values.append(rng.uniform(*_NORMS[number], weight.shape))
            elif weight.ndim > 1:
                inputs = (
                    np.prod(weight.shape[:2])
                    if "Depthwise" in type(layer).__name__
                    else (weight.size / weight.shape[-1])
                )
                values.append(rng.normal(0, inputs**-0.5, weight.shape))
            else:
                values.append(weight)
        layer.set_weights(values)


def deliver(model: Path, folder: Path, wanted: Format, data: Path, limit: int) -> Dict[str, Any]:
    """Runs the command in a process of its own; gives its status, seconds and what it told."""
    target = folder / wanted.name.rstrip("/")
    command = [sys.executable, "-m", "graphslim", "prune", str(model)]
    command += ["-o", str(target) + "/" * wanted.name.endswith("/"), *wanted.words]
    command += ["--criterion", "l1", "--macs", "0.5", "--data", str(data)]
    command += ["--limit", str(limit), "--json"]
    shapes = shapes_of(model)
    for name, shape in shapes.items():
        command += ["--input-shape", f"{name}={','.join(map(str, shape))}"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True)
    said = done.stderr.decode("utf-8", "replace").splitlines()
    told = [line for line in said if line.startswith("graphslim: ")]
    return {
        "status": done.returncode,
        "seconds": time.perf_counter() - began,
        "said": told[-1] if done.returncode and told else "",
        "told": json.loads(done.stdout) if done.returncode == 0 else {},
    }


def cell(found: Mapping[str, Any]) -> str:
    """What came of a command, in few words."""
    if found["status"]:
        said = found["said"].replace(str(ROOT), "").partition(": ")[2]
        return f"**exit {found['status']}** {said[:120]}"
    delivered, timed = found["told"]["delivered"], found["told"].get("timed")
    losses = delivered["verified"]
    if losses is None:
        checked = "not run"
    else:
        both = [_loss(losses[side]["outputs"], losses["judged"]) for side in ("result", "original")]
        checked = f"{both[0]} ({both[1]})"
    ratio = "not timed" if timed is None else f"{timed['models'][1]['ratio']['median']:.2f}"
    return f"{checked}; {ratio}; {delivered['size'][1] / 1e6:.2f} MB"


def _loss(outputs: Sequence[Mapping[str, Any]], judged: bool) -> str:
    """The largest loss of the outputs: of the range where there is a bound, else of the variation.

    Of classes, which do not vary by an amount, it is the share that is another.
    """
    if judged:
        return f"{max([output['relative'] for output in outputs]):.1e}"
    numbers = [output["error"] for output in outputs if output["error"] is not None]
    if numbers:
        return f"{max(numbers):.0%}"
    return f"{max([1 - output['agreement'] for output in outputs]):.1%} of decisions"


def main() -> None:
    """Makes the networks, runs the commands, and prints the table."""
    parser = argparse.ArgumentParser(description="Prunes and delivers networks in each format.")
    parser.add_argument("networks", nargs="*", default=[*published(), *KERAS])
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "benchmarks" / "deliveries")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--limit", type=int, default=64, help="so many of the crops at most")
    options = parser.parse_args()
    data = crops_in(options.folder, options.photos)
    rows = []
    for name in options.networks:
        folder = options.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        model = published()[name] if name in published() else make(name, folder, data)
        found = {}
        for wanted in FORMATS:
            found[wanted.title] = deliver(model, folder, wanted, data, options.limit)
            print(
                f"{name}, {wanted.title}: {cell(found[wanted.title])}", file=sys.stderr, flush=True
            )
        (folder / "told.json").write_text(json.dumps(found, indent=1))
        rows.append([name, *[cell(each) for each in found.values()]])
    print(table(["network", *[wanted.title for wanted in FORMATS]], rows))


if __name__ == "__main__":
    main()

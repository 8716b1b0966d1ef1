"""Trains two networks on Fashion-MNIST, and freezes them: the networks of the repair benchmark.

python -m benchmarks.fashion FOLDER [NAME...]

The images are those of Xiao et al. (2017, arXiv 1708.07747), as Debian's package
`dataset-fashion-mnist` has them: 60,000 to train on and 10,000 to test with. Each network is
trained once, from a fixed seed, and written to FOLDER/NAME.pb with what it scores on the test
images beside it. On two cores the training takes some ten minutes for each.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Tuple

import numpy as np

SOURCE = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"
SIZE = 32
SEED = 1
EPOCHS = 8
BATCH = 128
RATE = 4e-3
WARM_UP = 200


class Labelled(NamedTuple):
    """Images and what they show.

    Attributes:
        images: float32 of shape (count, 32, 32, 1), from 0 to 1.
        labels: int64 of shape (count,).
    """

    images: np.ndarray
    labels: np.ndarray


def is_there(folder: Path = SOURCE) -> bool:
    """Whether the images are installed."""
    return (folder / "t10k-images-idx3-ubyte.gz").is_file()


def read(part: str, folder: Path = SOURCE) -> Labelled:
    """The images of a part, `train` or `t10k`, with a border of two black pixels.

    Raises:
        SystemExit: the files are not there.
    """
    if not is_there(folder):
        raise SystemExit(f"{folder}: not there (install the Debian package {PACKAGE})")
    pixels = np.frombuffer(_content(folder / f"{part}-images-idx3-ubyte.gz"), np.uint8, -1, 16)
    labels = np.frombuffer(_content(folder / f"{part}-labels-idx1-ubyte.gz"), np.uint8, -1, 8)
    images = pixels.reshape(-1, 28, 28, 1).astype(np.float32) / 255
    border = (SIZE - 28) // 2
    padded = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)), "constant")
    return Labelled(padded, labels.astype(np.int64))


def _content(path: Path) -> bytes:
    with gzip.open(str(path)) as file:
        return file.read()


# --- The networks.


def mobilenet(keras: Any) -> Any:
    """A small MobileNetV2 (Sandler et al. 2018) with squeeze-and-excitation in its blocks."""
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = _conv(layers, image, 24, 3, stride=2)
    for width, stride, expansion in (
        *[(24, 1, 3), (32, 2, 4), (32, 1, 4), (48, 1, 4), (64, 2, 4), (64, 1, 4)],
    ):
        x = _inverted_residual(layers, x, width, stride, expansion)
    x = _conv(layers, x, 192, 1)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x))


def _inverted_residual(layers: Any, x: Any, width: int, stride: int, expansion: int) -> Any:
    entering, hidden = x, expansion * x.shape[-1]
    x = _conv(layers, x, hidden, 1)
    x = layers.DepthwiseConv2D(3, stride, "same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(max(8, hidden // 8), 1, activation="relu")(gate)
    gate = layers.Conv2D(hidden, 1, activation="hard_sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(x))
    return layers.Add()([entering, x]) if entering.shape[1:] == x.shape[1:] else x


def resnet(keras: Any) -> Any:
    """A small ResNet (He et al. 2015) of basic blocks."""
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = _conv(layers, image, 24, 3, stride=2)
    for width, stride in ((24, 1), (48, 2), (48, 1), (96, 2), (96, 1)):
        entering = x
        x = _conv(layers, x, width, 3, stride=stride)
        x = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", use_bias=False)(x))
        if stride > 1:
            entering = layers.Conv2D(width, 1, stride, use_bias=False)(entering)
            entering = layers.BatchNormalization()(entering)
        x = layers.ReLU()(layers.Add()([entering, x]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x))


def _conv(layers: Any, x: Any, width: int, kernel: int, stride: int = 1) -> Any:
    x = layers.Conv2D(width, kernel, stride, "same", use_bias=False)(x)
    return layers.ReLU(6.0)(layers.BatchNormalization()(x))


NETWORKS: Dict[str, Callable[[Any], Any]] = {"mobilenet": mobilenet, "resnet": resnet}


# --- Training.


def train(name: str, path: Path) -> float:
    """Trains a network and freezes it; gives its accuracy on the test images, once frozen."""
    import tensorflow as tf

    keras = tf.keras
    keras.utils.set_random_seed(SEED)
    data, test = read("train"), read("t10k")
    model = NETWORKS[name](keras)
    steps = EPOCHS * (len(data.labels) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - WARM_UP, warmup_target=RATE, warmup_steps=WARM_UP
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=2e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    for epoch, rows in enumerate(_shuffled(data)):
        started = time.perf_counter()
        figures = model.fit(*rows, BATCH, verbose=0, shuffle=False).history
        seconds = time.perf_counter() - started
        print(f"{name} {epoch + 1}/{EPOCHS}: {figures['accuracy'][0]:.4f}, {seconds:.0f} s")
        sys.stdout.flush()
    _freeze(model, path)
    predicted = np.concatenate([model.predict_on_batch(part) for part in np.split(test.images, 20)])
    return float((predicted.argmax(-1) == test.labels).mean())


def _shuffled(data: Labelled) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """The images of each epoch in another order, half of them mirrored, moved by up to a pixel."""
    random = np.random.RandomState(SEED)
    for _ in range(EPOCHS):
        order = random.permutation(len(data.labels))
        images = data.images[order]
        mirrored = random.random_sample(len(images)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        moves = random.randint(-1, 2, size=(len(images), 2))
        for move in np.unique(moves, axis=0):
            chosen = (moves == move).all(-1)
            images[chosen] = np.roll(images[chosen], tuple(move), (1, 2))
        yield images, data.labels[order]


def _freeze(model: Any, path: Path) -> None:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    image = tf.TensorSpec((None, SIZE, SIZE, 1), tf.float32, name="image")
    infer = tf.function(lambda image: {"logits": model(image, training=False)})
    frozen = convert_variables_to_constants_v2(infer.get_concrete_function(image))
    path.write_bytes(frozen.graph.as_graph_def().SerializeToString())


def main() -> None:
    """See the head of the file."""
    folder, names = Path(sys.argv[1]), sys.argv[2:] or sorted(NETWORKS)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        started = time.perf_counter()
        accuracy = train(name, folder / f"{name}.pb")
        seconds = round(time.perf_counter() - started)
        figures = {"accuracy": accuracy, "seconds": seconds, "seed": SEED, "epochs": EPOCHS}
        (folder / f"{name}.json").write_text(json.dumps(figures) + "\n")
        print(f"{name}: {accuracy:.4f} of the test images right, in {seconds} s")


if __name__ == "__main__":
    main()

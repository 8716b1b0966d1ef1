"""Real labelled images: scikit-learn's 1,797 digits, scaled up from 8x8, or Fashion-MNIST."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Tuple

import numpy as np

SIZE = 32
HELD_OUT = 397
BATCH = 32


class Digits(NamedTuple):
    """Images of one set and what they show.

    Attributes:
        images: float32 [count, 32, 32, 1], 0 to 1.
        labels: int64 [count].
    """

    images: np.ndarray
    labels: np.ndarray


def load(seed: int, source: str = "digits") -> Tuple[Digits, Digits]:
    """The images to train on and those held out.

    Args:
        seed: of the shuffle that splits the digits; Fashion-MNIST comes with 10,000 of its own.
        source: `digits` or `fashion`.

    Raises:
        SystemExit: Fashion-MNIST is not installed; the message says how it is had.
    """
    if source == "fashion":
        from benchmarks import fashion  # beside examples/ in the checkout

        return Digits(*fashion.read("train")), Digits(*fashion.read("t10k"))
    from sklearn.datasets import load_digits

    bundled = load_digits()
    scale = enlarge(8, SIZE)
    images = (scale @ (bundled.images / 16.0) @ scale.T).astype(np.float32)[..., np.newaxis]
    order = np.random.RandomState(seed).permutation(len(images))
    labels = bundled.target.astype(np.int64)
    held, rest = order[:HELD_OUT], order[HELD_OUT:]
    return Digits(images[rest], labels[rest]), Digits(images[held], labels[held])


def enlarge(size: int, to: int) -> np.ndarray:
    """The [to, size] matrix of bilinear interpolation between pixels' centres."""
    at = np.clip((np.arange(to) + 0.5) * size / to - 0.5, 0, size - 1)
    low = np.minimum(at.astype(int), size - 2)
    matrix = np.zeros((to, size))
    matrix[np.arange(to), low] = low + 1 - at
    matrix[np.arange(to), low + 1] = at - low
    return matrix


def batches(digits: Digits, steps: int, seed: int) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Shuffled batches for so many steps, each image moved by up to two pixels."""
    random = np.random.RandomState(seed)
    padded = np.pad(digits.images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="constant")
    order = np.zeros(0, int)
    for _ in range(steps):
        if len(order) < BATCH:
            order = random.permutation(len(digits.labels))
        picked, order = order[:BATCH], order[BATCH:]
        moves = random.randint(0, 5, size=(BATCH, 2))
        moved = [padded[i, y : y + SIZE, x : x + SIZE] for i, (y, x) in zip(picked, moves)]
        yield np.stack(moved), digits.labels[picked]

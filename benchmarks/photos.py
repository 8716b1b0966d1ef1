"""Photographs for networks that have no images of their own here: crops of those in two packages.

The photographs are those that scikit-image and scikit-learn carry (their READMEs state the
licences). A photograph is either chosen by or judged with, whole: no crop of it is in both. Seven
photographs are few, and not what any network here was trained for; they show how methods compare,
not what a network is worth.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Sequence, Tuple

import numpy as np

CHOSEN_BY = ("astronaut.png", "coffee.png", "motorcycle_left.png", "flower.jpg")
JUDGED_WITH = ("chelsea.png", "china.jpg", "rocket.jpg")
_FOLDERS = (("skimage", "data"), ("sklearn", "datasets/images"))
_SMALLEST = 0.45
"""The side of the smallest crop, as a share of the largest that a photograph holds."""


def crops(names: Sequence[str], count: int, size: Tuple[int, int], seed: int = 0) -> np.ndarray:
    """Random crops of photographs in turns, half of them mirrored.

    Args:
        names: the photographs.
        count: how many crops.
        size: their height and width, to which they are resized.
        seed: of what is drawn.

    Returns:
        uint8 of shape (count, height, width, 3).

    Raises:
        SystemExit: a photograph is not there.
    """
    from PIL import Image

    rng, (height, width) = np.random.RandomState(seed), size
    photographs = [Image.open(str(_path(name))).convert("RGB") for name in names]
    made = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        share = min(photograph.width / width, photograph.height / height)
        share *= rng.uniform(_SMALLEST, 1)
        across, down = int(share * width), int(share * height)
        left = rng.randint(0, photograph.width - across + 1)
        top = rng.randint(0, photograph.height - down + 1)
        crop = photograph.crop((left, top, left + across, top + down))
        pixels = np.asarray(crop.resize((width, height), Image.BILINEAR))
        made.append(pixels[:, ::-1] if rng.rand() < 0.5 else pixels)
    return np.stack(made)


def _path(name: str) -> Path:
    for package, folder in _FOLDERS:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / folder / name
            if path.is_file():
                return path
    raise SystemExit(f"{name}: not there (pip install scikit-image scikit-learn pillow)")

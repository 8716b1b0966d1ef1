"""Photographs that packages bring, for networks whose own kind of images is not at hand.

They are not of the kind that those networks were trained on: few of them show a person. A third of
them, whole, is kept for the report. FOLDER/repair and FOLDER/report may hold others in their place.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from benchmarks.work import ROOT

FOLDER = ROOT / "build" / "photos"
SHARES = ("repair", "report")
_BACKGROUNDS = Path("/usr/share/backgrounds")
_SKIMAGE = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel"),
    *("moon", "motorcycle_left", "retina", "rocket"),
)
_DRAWN = ("Fossa", "Infinite-Sea", "Painting-Colors", "analogpattern", "umang")
_LARGEST = 960
"""The longer side of what is kept, in pixels: more than any of the networks takes."""
SMALLEST = 0.45
"""The side of the smallest crop, as a share of the largest that a photograph holds."""


def sources() -> Dict[str, List[Path]]:
    """By package, the photographs of it that are installed."""
    lomiri = sorted(_BACKGROUNDS.glob("*_by_*.jpg"))
    found = {
        "Debian's lomiri-wallpapers-16.04 and -20.04": [
            path for path in lomiri if not path.name.startswith(_DRAWN)
        ],
        "Debian's mate-backgrounds": sorted((_BACKGROUNDS / "mate/nature").glob("*.jpg")),
    }
    # Where it lies can be told without importing it, which takes seconds.
    spec = importlib.util.find_spec("skimage")
    if spec is not None and spec.origin is not None:
        data = Path(spec.origin).parent / "data"
        paths = [path for name in _SKIMAGE for path in data.glob(f"{name}.*")]
        found["scikit-image"] = paths
    return {package: paths for package, paths in found.items() if paths}


def share_out(folder: Path = FOLDER) -> Tuple[Path, Path]:
    """The folders of photographs to repair by and of those to report on, made where need be.

    Raises:
        LookupError: no package that has photographs is installed.
    """
    folders = (folder / SHARES[0], folder / SHARES[1])
    if not all(each.is_dir() for each in folders):
        found = sources()
        if not found:
            raise LookupError("scikit-image, mate-backgrounds or lomiri-wallpapers-20.04")
        _write(folder, found)
    return folders


def _write(folder: Path, found: Dict[str, List[Path]]) -> None:
    """Makes both folders at once, so that two runs may do it at the same time."""
    from PIL import Image

    from graphslim.support.writing import replacing_folder

    folder.parent.mkdir(parents=True, exist_ok=True)
    photos = [path for paths in found.values() for path in paths]
    with replacing_folder(str(folder), force=True) as new:
        for number, path in enumerate(photos):
            place = Path(new) / SHARES[number % 3 == 2]
            place.mkdir(exist_ok=True)
            with Image.open(str(path)) as opened:
                image = opened.convert("RGB")
            image.thumbnail((_LARGEST, _LARGEST))
            image.save(str(place / f"{path.stem}.png"))
        (Path(new) / "sources.txt").write_text("\n".join(found) + "\n", encoding="utf-8")


def crops(folder: Path, count: int, size: Tuple[int, int], seed: int = 0) -> np.ndarray:
    """Random crops of photographs in turns, half of them mirrored.

    Args:
        folder: the photographs.
        count: how many crops.
        size: their height and width, to which they are resized.
        seed: of what is drawn.

    Returns:
        uint8 of shape (count, height, width, 3).
    """
    from PIL import Image

    rng, (height, width) = np.random.RandomState(seed), size
    photographs = [Image.open(str(path)).convert("RGB") for path in sorted(folder.glob("*.*"))]
    made = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        scale = min(photograph.width / width, photograph.height / height)
        scale *= rng.uniform(SMALLEST, 1)
        across, down = int(scale * width), int(scale * height)
        left = rng.randint(0, photograph.width - across + 1)
        top = rng.randint(0, photograph.height - down + 1)
        crop = photograph.crop((left, top, left + across, top + down))
        pixels = np.asarray(crop.resize((width, height), Image.BILINEAR))
        made.append(pixels[:, ::-1] if rng.rand() < 0.5 else pixels)
    return np.stack(made)


if __name__ == "__main__":
    print(*[f"{len(list(each.iterdir()))} in {each}" for each in share_out()], sep="\n")

"""Networks of tf.keras.applications for several tests, each frozen once in a test run."""

from __future__ import annotations

from pathlib import Path

import freezing
from once import made_once


def freeze(name: str, folder: Path, size: int = 224, way: str = "frozen") -> freezing.Network:
    """As `freezing.freeze`, whose files are made once for each network, size and way."""

    def make(place: Path) -> None:
        path, params = freezing.write_network(name, place, size, way)
        (place / "made.txt").write_text(f"{path.name} {params}")

    made_once(f"{name} {size} {way}", make, folder)
    file, params = (folder / "made.txt").read_text().split()
    return freezing.Network(freezing.load(folder / file), folder / file, int(params))

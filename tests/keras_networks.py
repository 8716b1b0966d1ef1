"""Networks of tf.keras.applications for several tests, each frozen once in a test run."""

from __future__ import annotations

from pathlib import Path

import freezing
from architectures import ARCHITECTURES, is_quick, ways_of
from once import made_once


def freeze(name: str, folder: Path, size: int = 224, way: str = "frozen") -> freezing.Network:
    """As `freezing.freeze`, whose files are made once for each network, size and way.

    A network is built once for all ways that the same tests are about and that build it alike.
    """
    ways = [way]
    if size == ARCHITECTURES[name].size:
        kin = (freezing.WAYS[way].build, is_quick(name, way))
        asked = dict.fromkeys([*ways_of(name, list(freezing.WAYS)), way])
        ways = [each for each in asked if (freezing.WAYS[each].build, is_quick(name, each)) == kin]

    def make(place: Path) -> None:
        folders = {each: place / each for each in ways}
        for each in folders.values():
            each.mkdir()
        paths, params = freezing.write_network(name, folders, size)
        for path in paths:
            (path.parent / "made.txt").write_text(f"{path.name} {params}")

    made_once(f"{name} {size} {' '.join(ways)}", make, folder, way)
    file, params = (folder / "made.txt").read_text().split()
    return freezing.Network(freezing.load(folder / file), folder / file, int(params))

"""Images as sample inputs: how they become numbers, what is left out, and what is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from pictured import all_of, fed, images

import graphslim as gs
from graphslim.errors import GraphslimError
from graphslim.measure import pictures
from graphslim.measure.samples import Examples, Samples
from graphslim.testing import from_text


@pytest.fixture(name="image")
def pillow() -> Any:
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def test_images_become_pixels(tmp_path: Path) -> None:
    folder = str(images(tmp_path, 3))
    found = all_of(fed("<?,8,6,3>", "uint8"), folder)["x"]
    assert (found.shape, found.dtype) == ((3, 8, 6, 3), np.uint8)
    assert found[:, 0, 0].tolist() == [[0, 200, 255], [1, 200, 255], [2, 200, 255]]
    scaled = all_of(fed(), folder)["x"]
    assert np.allclose(scaled[:, 0, 0, 2], 1) and np.allclose(scaled[0, 0, 0, 0], -1)
    wants = "k = Const() value=float32[]{255}\ny = RealDiv(x, k)"
    assert all_of(fed(rest=wants), folder)["x"].max() == 255
    assert all_of(fed("<?,8,6,1>"), folder)["x"].shape == (3, 8, 6, 1)
    assert all_of(fed("<?,3,8,6>"), folder)["x"][0, :, 0, 0].tolist() == pytest.approx(
        [-1, 200 / 127.5 - 1, 1]
    )
    assert all_of(fed("<?,8,6,3>", "int8"), folder)["x"][0, 0, 0].tolist() == [-128, 72, 127]


def test_an_input_without_a_batch_takes_one_image_a_run(tmp_path: Path) -> None:
    runs = list(Examples(fed("<8,6,3>"), Samples(str(images(tmp_path, 3)), batch=2)))
    assert [(feeds["x"].shape, count) for feeds, count in runs] == [((8, 6, 3), 1)] * 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"image_range": (0, 1)}, [10 / 255, 200 / 255, 1]),
        ({"image_range": (0, 255)}, [10, 200, 255]),
        ({"mean": (10, 100, 55), "scale": 0.5}, [0, 50, 100]),
        ({"mean": (10, 100, 55), "scale": 0.5, "bgr": True}, [100, 50, 0]),
        ({"mean": 127.5}, [-117.5, 72.5, 127.5]),
        ({"scale": 2.0}, [20, 400, 510]),
        ({"image_range": (0, 255), "bgr": True}, [255, 200, 10]),
    ],
)
def test_preprocessing_as_given(
    tmp_path: Path, image: Any, options: Any, expected: List[float]
) -> None:
    image.new("RGB", (4, 4), (10, 200, 255)).save(str(tmp_path / "a.PNG"))
    for path in (tmp_path, tmp_path / "a.PNG"):
        examples = Examples(fed(), Samples(gs.Images(str(path), **options)))
        assert "(as given)" in examples.about.lines()[0]
        ((feeds, count),) = list(examples)
        assert count == 1
        np.testing.assert_allclose(feeds["x"][0, 3, 3], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"image_range": (0, 1), "mean": 3.0}, "--image-range: excludes --mean and --scale"),
        ({"image_range": (1, 1)}, "--image-range: is one number twice"),
        ({"image_range": (1,)}, "--image-range: is .1,., and has to be two numbers"),
        ({"limit": 0}, "limit: must be 1 or more"),
        ({"scale": 0.0}, "--scale: is 0"),
        ({"mean": float("nan")}, "--mean: is nan"),
        ({"mean": (1.0, 2.0)}, "--mean: holds 2 numbers, and the input has 3 channels"),
    ],
)
def test_preprocessing_that_makes_no_sense(tmp_path: Path, options: Any, told: str) -> None:
    with pytest.raises(GraphslimError, match=told):
        Examples(fed(), Samples(gs.Images(str(images(tmp_path, 1)), **options)))


def test_cropping_keeps_the_aspect(tmp_path: Path, image: Any) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    image.fromarray(wide).save(str(tmp_path / "a.png"))
    stretched, cropped = (
        all_of(fed("<?,8,8,3>", "uint8"), gs.Images(str(tmp_path), crop=crop))["x"]
        for crop in (False, True)
    )
    assert cropped.min() > 250 and stretched[0, 0, 0, 0] < 10


def test_images_of_every_mode(tmp_path: Path, image: Any) -> None:
    grey = np.full((8, 6), 128, np.uint8)
    image.fromarray(grey).save(str(tmp_path / "grey.png"))
    image.fromarray(grey).convert("P").save(str(tmp_path / "palette.gif"))
    image.fromarray(grey).convert("RGBA").save(str(tmp_path / "alpha.png"))
    image.fromarray(grey.astype(np.uint16) * 257).save(str(tmp_path / "deep.png"))
    image.fromarray(grey).convert("CMYK").save(str(tmp_path / "print.tif"))
    found = all_of(fed("<?,8,6,3>", "uint8"), str(tmp_path))["x"]
    assert len(found) == 5
    assert np.abs(found.astype(int) - 128).max() <= 1


def test_images_are_turned_upright(tmp_path: Path, image: Any) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    exif = image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image.fromarray(pixels).save(str(tmp_path / "a.jpg"), exif=exif, quality=100)
    found = all_of(fed("<?,8,8,3>", "uint8"), str(tmp_path))["x"][0, :, :, 0]
    assert found[:, 7].min() > 240 and found[:, 0].max() < 15


def test_how_many_images_are_used(tmp_path: Path) -> None:
    folder = str(images(tmp_path / "many", 104, (8, 6)))
    examples = Examples(fed(dtype="uint8"), Samples(folder, batch=40))
    assert (examples.count, examples.runs) == (104, 3)
    assert [count for _, count in examples] == [40, 40, 24]
    assert examples.about.cautions == ()
    few = all_of(fed(dtype="uint8"), gs.Images(folder, limit=4))["x"]
    assert few[:, 0, 0, 0].tolist() == [0, 26, 52, 78]
    fixed = Examples(fed("<3,8,6,3>"), Samples(gs.Images(folder, limit=8)))
    assert (fixed.count, fixed.runs) == (6, 2)
    assert fixed.about.cautions == ("the last 2 of 8 are left out: the graph takes 3 at once",)
    with pytest.raises(GraphslimError, match="holds 104 images, the input takes 300"):
        Examples(fed("<300,8,6,3>"), Samples(folder))


def test_folders_of_classes_are_walked(tmp_path: Path) -> None:
    for name in ("cats", "dogs", ".hidden"):
        images(tmp_path / name, 2)
    assert Examples(fed(), Samples(str(tmp_path))).count == 4


def test_what_was_done_is_told(tmp_path: Path) -> None:
    images(tmp_path, 2)
    images(tmp_path / "other", 1, (5, 5))
    about = Examples(fed(), Samples(str(tmp_path))).about
    assert about.lines() == [
        f"data: 3 images of 2 sizes from {tmp_path}, stretched to 8x6, RGB, pixels scaled to "
        "-1..1 (assumed: the graph does not say; --image-range 0,1 changes it)"
    ]
    assert about.as_dict()["preprocessing"]["formula"] == "pixels scaled to -1..1"
    (line,) = Examples(fed("<?,?,?,3>", "uint8"), Samples(str(tmp_path))).about.lines()
    assert "stretched to 224x224 (assumed: the graph leaves the size open" in line
    assert "scaled to 0..255 (by the graph: the input is of uint8)" in line


def test_images_are_decoded_run_by_run(tmp_path: Path, monkeypatch: Any) -> None:
    folder, decoded = str(images(tmp_path, 6)), []
    original = pictures.Pictures._pixels
    monkeypatch.setattr(
        pictures.Pictures, "_pixels", lambda *one: decoded.append(one[1]) or original(*one)
    )
    examples = Examples(fed(), Samples(folder, batch=2))
    assert not decoded
    for run, _ in enumerate(examples):
        assert len(decoded) == 2 * (run + 1)
    first = [feeds["x"] for feeds, _ in examples]
    assert all((one == feeds["x"]).all() for one, (feeds, _) in zip(first, examples))


def test_a_broken_image_is_skipped_and_told(tmp_path: Path, image: Any) -> None:
    images(tmp_path, 2)
    (tmp_path / "a.png").write_bytes(b"no image")
    examples = Examples(fed(), Samples(str(tmp_path)))
    assert examples.count == 2 and len(list(examples)) == 2
    (caution,) = examples.about.cautions
    assert caution.startswith(f"1 of 3 images could not be read: {tmp_path / 'a.png'}")
    content = (tmp_path / "000.png").read_bytes()
    (tmp_path / "000.png").write_bytes(content[: len(content) // 2])
    monochrome = Examples(fed(), Samples(str(tmp_path)))
    assert monochrome.count == 1 and "2 of 3 images" in monochrome.about.cautions[0]


def test_hostile_sizes_are_a_caution(tmp_path: Path, image: Any, monkeypatch: Any) -> None:
    images(tmp_path, 1)
    image.new("L", (300, 300)).save(str(tmp_path / "huge.png"))
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 1000)
    examples = Examples(fed(), Samples(str(tmp_path)))
    assert examples.count == 1
    assert "more pixels than Pillow takes for sound" in examples.about.cautions[0]


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(GraphslimError, match="holds no images"):
        Examples(fed(), Samples(str(tmp_path)))
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(GraphslimError, match="is no image .give an .npz"):
        Examples(fed("<1,7>"), Samples(str(tmp_path)))
    two = from_text("a = Placeholder()\nb = Placeholder()\nc = Add(a, b)")
    with pytest.raises(GraphslimError, match="the graph has 2 inputs"):
        Examples(two, Samples(str(tmp_path)))
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with pytest.raises(GraphslimError, match=r"a\.png: not an image that Pillow reads"):
        Examples(fed(), Samples(str(tmp_path)))


def test_pillow_missing_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(GraphslimError, match="needs Pillow .pip install pillow"):
        Examples(fed(), Samples(str(tmp_path)))


# ------------------------------------------------------------------- digests


def test_the_digest_is_that_of_the_contents(tmp_path: Path) -> None:
    one, same, other = (images(tmp_path / name, 3) for name in ("one", "same", "other"))
    (other / "001.png").write_bytes((other / "002.png").read_bytes())
    digests = [
        Examples(fed(), Samples(str(folder))).about.as_dict() for folder in (one, same, other)
    ]
    assert digests[0] == digests[1] and digests[0]["sha256"] != digests[2]["sha256"]
    arrays = [
        Examples(fed(), Samples({"x": np.full((3, 8, 6, 3), value)})).about.as_dict()
        for value in (1.0, 1.0, 2.0)
    ]
    assert arrays[0] == arrays[1] != arrays[2]


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path: Path) -> None:
    images(tmp_path, 1)
    os.mkfifo(str(tmp_path / "pipe.png"))
    examples = Examples(fed(), Samples(str(tmp_path)))
    assert examples.count == 1 and "no regular file" in examples.about.cautions[0]
    os.mkfifo(str(tmp_path / "pipe"))
    with pytest.raises(GraphslimError, match="pipe: a pipe, no regular file"):
        Examples(fed(), Samples(str(tmp_path / "pipe")))

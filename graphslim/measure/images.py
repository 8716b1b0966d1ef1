"""How image files become numbers: by options, by what the graph shows, or by assumptions."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.channels.groups import analyse
from graphslim.errors import GraphslimError
from graphslim.ir import DType, Graph, Port
from graphslim.measure.inputs import (
    Layout,
    dtype_of,
    holds_numbers,
    image_layout,
    input_shape,
    range_of,
)


class Images(NamedTuple):
    """Sample inputs from files, and how images are to be preprocessed.

    Options left out are taken from what the graph shows (see `inputs.range_of`), or else are usual.

    Attributes:
        path: an image, a folder of images (and of folders of images), an `.npz` or an `.npy`.
        image_range: the numbers that black and white become, such as (-1, 1).
        mean: instead of `image_range`, the number that is subtracted from pixels of 0 to 255, or
            one number each for red, green and blue.
        scale: instead of `image_range`, the factor of pixels after that: (pixel - mean) * scale.
        bgr: whether blue comes first; None for the order that the graph shows, or else red first.
        crop: whether images keep their aspect (the short side is resized to the input's, and the
            centre is taken) instead of being stretched.
        limit: how many images are used at most, spread evenly over their sorted names; None for
            all of them.
    """

    path: str
    image_range: Optional[Tuple[float, float]] = None
    mean: Union[None, float, Tuple[float, ...]] = None
    scale: Optional[float] = None
    bgr: Optional[bool] = None
    crop: bool = False
    limit: Optional[int] = None

    def refuse_options(self, why: str) -> None:
        """Refuses options for images where the data are not images.

        Args:
            why: a clause that says what the data are instead.

        Raises:
            GraphslimError: an option for images is given.
        """
        for name, value in self._asdict().items():
            if name != "path" and value is not None and value is not False:
                raise GraphslimError(f"is for images, and {why}", option_of(name), "leave it out")


def option_of(field: str) -> str:
    """The command line's option for a field of `Images`."""
    return "--" + field.replace("_", "-")


class Preprocessing(NamedTuple):
    """The preprocessing of images, with every option decided.

    Attributes:
        layout: the height, width and channels of the result.
        dtype: its element type.
        slope, offset: for each colour, red first: a pixel of 0 to 255 becomes slope * pixel +
            offset.
        formula: slope and offset in words, such as `pixels scaled to -1..1`.
        reason: where the formula comes from: an option, the graph or an assumption.
        order: the order of the colours: `RGB`, `BGR` or `grey`.
        crop: whether the centre is taken, instead of stretching.
        open_size: whether the graph leaves height or width open.
    """

    layout: Layout
    dtype: DType
    slope: Tuple[float, ...]
    offset: Tuple[float, ...]
    formula: str
    reason: str
    order: str
    crop: bool
    open_size: bool

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """One image as the input takes it.

        Args:
            pixels: uint8 of shape (height, width, channels), red first.

        Returns:
            an array of `dtype`, of shape (height, width, channels) or, where the layout has
            channels first, (channels, height, width).
        """
        numbers = pixels * np.array(self.slope) + np.array(self.offset)
        if self.order == "BGR":
            numbers = numbers[:, :, ::-1]
        if self.layout.channels_first:
            numbers = numbers.transpose(2, 0, 1)
        if not self.dtype.is_floating:
            bounds = np.iinfo(self.dtype.storage)
            numbers = np.clip(np.rint(numbers), bounds.min, bounds.max)
        return numbers.astype(self.dtype.storage)

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json` and the settings of plans."""
        return {
            "size": [self.layout.height, self.layout.width],
            "fit": "cropped" if self.crop else "stretched",
            "order": self.order,
            "slope": list(self.slope),
            "offset": list(self.offset),
            "formula": self.formula,
            "by": self.reason,
        }

    def __str__(self) -> str:
        place = f"{self.layout.height}x{self.layout.width}"
        fit = f"resized and cropped to {place}" if self.crop else f"stretched to {place}"
        if self.open_size:
            fit += " (assumed: the graph leaves the size open; --input-shape states it)"
        order = "" if self.order == "grey" else f", {self.order}"
        return f"{fit}{order}, {self.formula} ({self.reason})"


def preprocessing_for(graph: Graph, name: str, images: Images) -> Preprocessing:
    """The preprocessing of images for an input.

    Raises:
        GraphslimError: the input takes no images, or the options contradict each other or the
            input.
    """
    shape, dtype = input_shape(graph, name), dtype_of(graph[name])
    layout = image_layout(shape)
    if layout is None or not holds_numbers(dtype):
        raise GraphslimError(
            f"an input of shape {list(shape)} and type {dtype.name} is no image",
            f"input {name}",
            "give an .npz",
        )
    _check_numbers(images)
    dims = analyse(graph).fact(Port(name)).shape or ()
    evidence, width = range_of(graph, name), layout.channels
    ones: np.ndarray = np.ones(width)
    reason = "as given"
    if images.mean is not None or images.scale is not None:
        if images.image_range is not None:
            raise GraphslimError("excludes --mean and --scale", "--image-range", "leave one out")
        scale = 1.0 if images.scale is None else images.scale
        mean = _mean_by_colour(images.mean, width)
        slope, offset = ones * scale, -mean * scale
        texts = [f"{number:g}" for number in mean]
        shown = texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"
        formula = f"(pixels of 0..255 - {shown}) * {scale:.6g}"
    else:
        low, high = images.image_range or (evidence.low, evidence.high)
        slope, offset = ones * ((high - low) / 255), ones * low
        formula = f"pixels scaled to {low:g}..{high:g}"
        if images.image_range is None and evidence.reason is not None:
            reason = f"by the graph: {evidence.reason}"
        elif images.image_range is None:
            reason = "assumed: the graph does not say; --image-range 0,1 changes it"
    order = evidence.order or "RGB"
    if images.bgr is not None:
        order = "BGR" if images.bgr else "RGB"
    return Preprocessing(
        layout,
        dtype,
        tuple(slope.tolist()),
        tuple(offset.tolist()),
        formula,
        reason,
        "grey" if width == 1 else order,
        images.crop,
        None in dims[-3:],
    )


def _check_numbers(images: Images) -> None:
    """Refuses numbers that would make all images alike.

    Raises:
        GraphslimError: a number is not finite, or would make all pixels the same.
    """
    for name in ("image_range", "mean", "scale"):
        value = getattr(images, name)
        if value is not None and not np.isfinite(np.asarray(value, np.float64)).all():
            raise GraphslimError(f"is {value}, and has to be finite", option_of(name))
    if images.image_range is not None and len(images.image_range) != 2:
        raise GraphslimError(f"is {images.image_range}, and has to be two numbers", "--image-range")
    if images.image_range is not None and images.image_range[0] == images.image_range[1]:
        raise GraphslimError("is one number twice", "--image-range", "give black and white")
    if images.scale == 0:
        raise GraphslimError("is 0, which makes every image the same", "--scale")


def _mean_by_colour(mean: Union[None, float, Sequence[float]], width: int) -> np.ndarray:
    """The mean of each colour; float64 of shape (width,).

    Raises:
        GraphslimError: `mean` holds neither one number nor one for each colour of the input.
    """
    numbers = np.atleast_1d(np.asarray(0.0 if mean is None else mean, np.float64))
    if len(numbers) not in (1, width):
        raise GraphslimError(
            f"holds {len(numbers)} numbers, and the input has {width} channels",
            "--mean",
            "give one number, or one for each channel",
        )
    return np.array(np.broadcast_to(numbers, (width,)))

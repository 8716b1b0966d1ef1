"""Image files: found, checked and decoded, a few at a time."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import warnings
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.errors import GraphslimError
from graphslim.measure.images import Images, Preprocessing
from graphslim.support.text import plural

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_DECODED = {
    **{"DecodeWav": (".wav",), "DecodeBmp": (".bmp",)},
    **dict.fromkeys(
        ("DecodeJpeg", "DecodePng", "DecodeImage", "DecodeAndCropJpeg"),
        (".png", ".jpg", ".jpeg", ".gif"),
    ),
}
"""By decoding op, the endings of the names of files that it decodes."""
_FINER = 2
"""A JPEG may be decoded at a fraction of its size, but not below this many times the target's."""
_ENLARGED, _STRETCHED = 4, 2
"""By how much the area, or the ratio of the sides, of images may be off without a caution."""
_REASONS = {
    "UnidentifiedImageError": "no known image format",
    "DecompressionBombError": "more pixels than Pillow takes for sound",
}
"""By the name of Pillow's error, the reason given in messages."""


class Files(NamedTuple):
    """The files of a folder that are used.

    Attributes:
        paths: the files that can be read, in the order of their names.
        sizes: the number of different sizes of images; 0 if none is known.
        sha256: the SHA-256 over the contents of these files, in order.
        cautions: the files that were left out, and why, one line each.
        middle: the median width and height of the images; (0, 0) if none is known.
    """

    paths: Tuple[str, ...]
    sizes: int
    sha256: str
    cautions: Tuple[str, ...]
    middle: Tuple[int, int] = (0, 0)

    def part(self, indices: Sequence[int]) -> Files:
        """Some of the files, in the order given; the digest stays that of all."""
        return self._replace(paths=tuple([self.paths[index] for index in indices]))


class Pictures:
    """Images as a sequence of arrays: a slice decodes the images in it, and keeps none.

    Args:
        files: the images.
        preprocessing: the preprocessing of each image.
    """

    def __init__(self, files: Files, preprocessing: Preprocessing) -> None:
        self._files, self._preprocessing = files, preprocessing
        self.batched = preprocessing.layout.batched

    def __len__(self) -> int:
        return len(self._files.paths)

    def part(self, indices: Sequence[int]) -> Pictures:
        """Some of the images, in the order given."""
        return Pictures(self._files.part(indices), self._preprocessing)

    def __getitem__(self, part: slice) -> np.ndarray:
        decoded = [self._preprocessing(self._pixels(path)) for path in self._files.paths[part]]
        return np.stack(decoded) if self.batched else decoded[0]

    def _pixels(self, path: str) -> np.ndarray:
        """An image in the input's size; uint8 of shape (height, width, channels)."""
        height, width, channels = self._preprocessing.layout[:3]
        try:
            opened = _opened(_content(path), _FINER * max(height, width))
        except Exception as error:
            raise GraphslimError(
                f"cannot be read any more: {_reason(error)}", path, "leave the data as they are"
            ) from error
        from PIL import Image, ImageOps

        image = opened.convert("L" if channels == 1 else "RGB")
        bicubic: Any = getattr(Image, "BICUBIC")  # noqa: B009  # which not every version declares
        if self._preprocessing.crop:
            image = ImageOps.fit(image, (width, height), method=bicubic)
        else:
            image = image.resize((width, height), bicubic)
        return np.asarray(image, np.uint8).reshape(height, width, channels)


class Encoded:
    """Files as a sequence of their bytes, for a graph that decodes them itself.

    Args:
        files: the files.
        batched: whether the input takes a vector of file contents, or a single one.
    """

    def __init__(self, files: Files, batched: bool) -> None:
        self._files, self.batched = files, batched

    def __len__(self) -> int:
        return len(self._files.paths)

    def part(self, indices: Sequence[int]) -> Encoded:
        """Some of the files, in the order given."""
        return Encoded(self._files.part(indices), self.batched)

    def __getitem__(self, part: slice) -> np.ndarray:
        contents = [_content(path) for path in self._files.paths[part]]
        return np.array(contents if self.batched else contents[0], object)


def misfits(files: Files, preprocessing: Preprocessing) -> List[str]:
    """Cautions about images whose size is far from that of the input."""
    sides, (height, width) = files.middle, preprocessing.layout[:2]
    if not min(sides) or preprocessing.open_size:
        return []
    texts, size = [], f"images of {sides[0]}x{sides[1]} (their median)"
    if _ENLARGED * sides[0] * sides[1] <= width * height:
        texts.append(
            f"{size} are enlarged to {width}x{height} (width x height): they show less than the "
            "network was made to see; give the images before they were made smaller"
        )
    # Files may state their sides before they are turned upright.
    longer = [max(pair) / min(pair) for pair in (sides, (width, height))]
    if not preprocessing.crop and max(longer) >= _STRETCHED * min(longer):
        texts.append(
            f"{size} are stretched to {width}x{height} (width x height), out of their shape; "
            "--crop keeps it"
        )
    return texts


def open_files(images: Images, endings: Sequence[str], multiple: int, decoded: bool) -> Files:
    """The files that a path means, checked.

    Args:
        images: the path, and the largest number of files to use.
        endings: the endings of the files' names, in lower case.
        multiple: how many files the graph takes at once; a remainder is left out.
        decoded: whether the files are images to be decoded here, not by the graph.

    Raises:
        GraphslimError: there are no files, fewer than `multiple`, or none that can be read, or the
            limit is 0 or less.
    """
    paths, limit = _listed(images.path, endings), images.limit
    if limit is not None and limit < 1:
        raise GraphslimError("must be 1 or more", "--limit")
    if limit is not None and len(paths) > limit:
        paths = [paths[place * len(paths) // limit] for place in range(limit)]
    files = _checked(paths, decoded)
    cautions = list(files.cautions)
    if len(files.paths) < multiple:
        raise GraphslimError(
            f"holds {plural(len(files.paths), 'image')}, the input takes {multiple}",
            images.path,
            "add images",
        )
    count = len(files.paths) // multiple * multiple
    if count < len(files.paths):
        cautions.append(
            f"the last {len(files.paths) - count} of {len(files.paths)} are left out: the graph "
            f"takes {multiple} at once"
        )
        files = _checked(files.paths[:count], decoded)
    return files._replace(cautions=tuple(cautions))


def _listed(path: str, endings: Sequence[str]) -> List[str]:
    """A file, or the files of a folder and its folders, sorted.

    Raises:
        GraphslimError: the folder holds no file with such an ending.
    """
    if not os.path.isdir(path):
        return [path]
    paths: List[str] = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [
            os.path.join(folder, name)
            for name in names
            if name.lower().endswith(tuple(endings)) and not name.startswith(".")
        ]
    if not paths:
        raise GraphslimError("holds no images", path, f"their names end with {', '.join(endings)}")
    return sorted(paths)


def _identity(path: str) -> Tuple[str, int, int]:
    """The path, size and modification time of a file, by which a change is noticed."""
    try:
        status = os.stat(path)
    except OSError:
        return path, -1, -1
    return path, status.st_size, status.st_mtime_ns


def _checked(paths: Sequence[str], decoded: bool) -> Files:
    return _read(tuple([_identity(path) for path in paths]), decoded)


@functools.lru_cache(maxsize=8)
def _read(files: Tuple[Tuple[str, int, int], ...], decoded: bool) -> Files:
    """Reads every file once, to find broken ones and the digest of the others.

    Several parts of a command use the same files, so the result is remembered while the files stay
    the same.

    Raises:
        GraphslimError: no file can be read, or Pillow is not installed.
    """
    if decoded:
        try:
            import PIL.Image  # noqa: F401
        except ImportError:
            missing = "reading images needs Pillow"
            raise GraphslimError(missing, files[0][0], "pip install pillow") from None
    digest, paths, sizes, broken = hashlib.sha256(), [], [], []
    for path, _, _ in files:
        try:
            content = _content(path)
            if decoded:
                # An eighth of the size is enough to see whether all of a JPEG is there.
                sizes.append(_opened(content, 1, sizes_only=True))
        except Exception as error:  # Pillow's readers raise all kinds on damaged files
            broken.append((path, _reason(error)))
            continue
        digest.update(hashlib.sha256(content).digest())
        paths.append(path)
    cautions = []
    if broken:
        path, reason = broken[0]
        if not paths:
            raise GraphslimError(f"not an image that Pillow reads: {reason}", path, "mend the data")
        such = path if len(broken) == 1 else f"such as {path}"
        cautions = [f"{len(broken)} of {len(files)} images could not be read: {such} ({reason})"]
    width, height = np.median(sizes, axis=0).astype(int).tolist() if sizes else (0, 0)
    return Files(
        tuple(paths), len(set(sizes)), digest.hexdigest(), tuple(cautions), (width, height)
    )


def _content(path: str) -> bytes:
    """The bytes of a regular file; a device or pipe might never end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("no regular file")
    with open(path, "rb") as file:
        return file.read()


def _opened(content: bytes, side: int, sizes_only: bool = False) -> Any:
    """A decoded image, upright and of 8 bits per channel; or only its size.

    Args:
        content: the bytes of the file.
        side: a JPEG may be decoded at a smaller size, with no side below this.
        sizes_only: return the size that the file states, after all of it has been decoded.
    """
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        # Pillow warns of large images and refuses huge ones; the refusal is enough.
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as image:
            size = image.size
            image.draft(None, (side, side))
            image.load()
            if sizes_only:
                return size
            upright = ImageOps.exif_transpose(image)
    if not upright.mode.startswith("I"):
        return upright
    # 16 bits per pixel become 8.
    return Image.fromarray((np.clip(np.asarray(upright), 0, 65535) // 257).astype(np.uint8))


def _reason(error: Exception) -> str:
    """Why a file could not be read, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    name = type(error).__name__
    return _REASONS.get(name) or " ".join(str(error).split())[:80] or name


def endings_of(decoder: Optional[str]) -> Tuple[str, ...]:
    """The endings of files that a decoding op takes, or of images in general."""
    return _DECODED.get(decoder or "", IMAGE_ENDINGS)

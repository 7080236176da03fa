"""Pictures and masks from files, which may come from strangers; fitting them to a model's grid and back."""

import math
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import DragNoiseError

MAX_PIXELS = 64 * 10**6
MAX_FILE_BYTES = 256 * 2**20
MAX_ASPECT = 16
# Formats that Pillow decodes by itself: others (EPS, for one) start programs or are rarely pictures.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA", "ICO")
# What Pillow's decoders raise on damaged files.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def load_image(path: str | os.PathLike) -> Image.Image:
    """Read a picture of any size and mode as RGB: alpha over white, 16 bit scaled to 8, turned as its EXIF data says.

    Of an animation, the first frame. Raises DragNoiseError when the file is missing, over 256 MiB or 64 megapixels
    (decided before decoding), damaged, or no picture.
    """
    return _load(path, "white")


def load_mask(path: str | os.PathLike) -> Tensor:
    """Read a mask as [H, W] in [0, 1]: white (1) may change, black or transparent (0) stays. Errors as `load_image`."""
    return torch.from_numpy(numpy.array(_load(path, "black").convert("L"), dtype=numpy.float32) / 255)


def fit(picture: Image.Image, native_side: int, multiple: int = 8) -> Image.Image:
    """Scale to about native_side^2 pixels, keeping the aspect ratio; both sides become multiples of `multiple`.

    Raises DragNoiseError for pictures more than 16 times longer than wide or the other way round.
    """
    width, height = picture.size
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DragNoiseError(f"the picture is {width} x {height}; crop it to at most {MAX_ASPECT}:1.")
    scale = native_side / math.sqrt(width * height)
    sides = tuple(max(1, round(side * scale / multiple)) * multiple for side in picture.size)
    return unfit(picture, sides)


def unfit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale to `size`, (width, height); a picture of that size comes back untouched."""
    return picture if picture.size == size else picture.resize(size, Image.LANCZOS)


def _load(path: str | os.PathLike, background: str) -> Image.Image:
    path = Path(path)
    if not path.is_file():
        raise DragNoiseError(f"no picture at {path}; check the name.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DragNoiseError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; give a smaller picture.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                _check_size(path, picture.size)
                picture.load()
                return _as_rgb(ImageOps.exif_transpose(picture), background)
    except DragNoiseError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DragNoiseError(f"{path} has over {MAX_PIXELS // 10**6} megapixels; scale it down first.") from error
    except Image.UnidentifiedImageError as error:
        raise DragNoiseError(f"{path} is no picture that can be read; give one of {', '.join(FORMATS)}.") from error
    except DECODER_ERRORS as error:
        raise DragNoiseError(f"{path} is damaged ({error}); save the picture again.") from error


def _check_size(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise DragNoiseError(
            f"{path} is {size[0]} x {size[1]} pixels; scale it down to at most {MAX_PIXELS // 10**6} megapixels."
        )


def _as_rgb(picture: Image.Image, background: str) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("floating point pictures have no agreed range; save as 8 or 16 bit")
    if picture.mode.startswith("I"):
        wide = numpy.array(picture).astype(numpy.int64).clip(0, 65535)
        return Image.fromarray(((wide + 128) // 257).astype(numpy.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, background), picture).convert("RGB")
    return picture.convert("RGB")

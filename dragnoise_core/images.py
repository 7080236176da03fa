"""Pictures and masks from files, which may come from strangers; fitting them to a model's grid and back."""

import io
import logging
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps
from torch import Tensor

from .errors import DragNoiseError, printable

T = TypeVar("T")
log = logging.getLogger(__name__)

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

# How to turn a picture of each EXIF orientation upright; 1, and whatever the standard lacks, is upright already.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def load_image(path: str | os.PathLike) -> Image.Image:
    """Read a picture of any size and mode as RGB: alpha over white, 16 bit scaled to 8, turned as its EXIF data says.

    Of an animation, the first frame. A colour profile of RGB stays with the picture, as info["icc_profile"], so that
    its pixels are its own; from profiles of other colour spaces (CMYK, grey) the colours are converted to sRGB.
    EXIF data or a profile that cannot be read are passed over. Raises DragNoiseError when the file is
    missing, over 256 MiB or 64 megapixels (decided before decoding), damaged, or no picture.
    """
    return _load(path, _as_rgb)


def load_mask(path: str | os.PathLike) -> Tensor:
    """Read a mask as [H, W] in [0, 1], 1 = may change. Errors as `load_image`.

    Where the file has transparency, what is transparent may change, as in ComfyUI's mask editor and Load Image; in an
    opaque file, what is white. 16 bit keep their values.
    """
    return _load(path, _as_mask)


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


def _load(path: str | os.PathLike, convert: Callable[[Image.Image], T]) -> T:
    path = Path(path)
    if not path.is_file():
        raise DragNoiseError(f"no picture at {path}; check the name.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DragNoiseError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; give a smaller picture.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what Pillow says of damaged metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                _check_size(path, picture.size)
                picture.load()
                return convert(_turned(picture))
    except DragNoiseError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DragNoiseError(f"{path} has over {MAX_PIXELS // 10**6} megapixels; scale it down first.") from error
    except Image.UnidentifiedImageError as error:
        raise DragNoiseError(
            f"{path} is no picture that can be read; give one of {', '.join(FORMATS)}, 8 bits a colour."
        ) from error
    except DECODER_ERRORS as error:
        raise DragNoiseError(f"{path} is damaged ({error}); save the picture again.") from error


def _check_size(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise DragNoiseError(
            f"{path} is {size[0]} x {size[1]} pixels; scale it down to at most {MAX_PIXELS // 10**6} megapixels."
        )


def _turned(picture: Image.Image) -> Image.Image:
    """Return the picture upright. Only the orientation is read, so other EXIF entries may be broken."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
        turn = TURNS.get(orientation)
    except DECODER_ERRORS as error:
        log.warning("the EXIF data cannot be read (%s); the picture is taken as upright", printable(str(error)))
        return picture
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    turned.info = picture.info
    return turned


def _as_rgb(picture: Image.Image) -> Image.Image:
    profile, alpha = picture.info.get("icc_profile"), None
    if picture.mode[:1] in ("I", "F"):
        picture = Image.fromarray((_wide_grey(picture) * 255).round().astype(numpy.uint8))
    elif picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A")
        picture = picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")
    elif picture.mode in ("1", "P"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    result = _with_profile(picture, profile)
    if alpha is None:
        return result
    flat = Image.composite(result, Image.new("RGB", result.size, "white"), alpha)
    flat.info = result.info
    return flat


def _with_profile(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the picture as RGB: with an RGB profile beside its pixels, converted to sRGB from any other profile."""
    source = None
    if picture.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif profile:
        source = _usable(profile, picture.mode)
    if source is None or _is_rgb(source):
        result = picture.convert("RGB")
        result.info = {} if source is None else {"icc_profile": profile}
        return result
    return _converted(picture, source)


def _usable(profile: bytes, mode: str) -> ImageCms.ImageCmsProfile | None:
    """Return an ICC profile that colours of a Pillow mode can be converted from, or warn and return None."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # Grey pictures may have an RGB profile.
        ImageCms.buildTransform(source, _srgb(), "RGB" if _is_rgb(source) and mode == "L" else mode, "RGB")
    except (ImageCms.PyCMSError, *DECODER_ERRORS) as error:
        log.warning("the colour profile cannot be used (%s); colours are taken as sRGB", printable(str(error)))
        return None
    return source


def _is_rgb(profile: ImageCms.ImageCmsProfile) -> bool:
    return profile.profile.xcolor_space.strip() == "RGB"


def _converted(picture: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    result = ImageCms.profileToProfile(picture, source, _srgb(), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB")
    result.info = {}
    return result


def to_srgb(picture: Image.Image) -> Image.Image:
    """Return an RGB picture as `load_image` gives it with its colours in sRGB, without a profile."""
    profile = picture.info.get("icc_profile")
    return _converted(picture, ImageCms.ImageCmsProfile(io.BytesIO(profile))) if profile else picture


def _as_mask(picture: Image.Image) -> Tensor:
    if picture.mode[:1] in ("I", "F"):
        return torch.from_numpy(_wide_grey(picture))
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    if alpha is None or alpha.getextrema()[0] == 255:
        values = picture if picture.mode == "L" else picture.convert("RGB").convert("L")
    else:
        values = ImageOps.invert(alpha)
    return torch.from_numpy(numpy.array(values)).float().div_(255)


def _wide_grey(picture: Image.Image) -> numpy.ndarray:
    """Return a grey picture of 16 bits, [H, W] in [0, 1], float32."""
    if picture.mode == "F":
        raise ValueError("floating point pictures have no agreed range; save as 8 or 16 bit")
    values = numpy.array(picture)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("more than 16 bits a pixel have no agreed range; save as 8 or 16 bit")
    return values.astype(numpy.float32) / numpy.float32(65535)

"""Points, arrows, tracked paths and masks over a picture; contact sheets; pictures to and from tensors and files."""

import os
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFont
from torch import Tensor

from .errors import DragNoiseError
from .images import to_srgb
from .points import DragPoints

HANDLE, TARGET, PATH, INK, PAPER = (230, 40, 50), (40, 90, 240), (255, 210, 40), (20, 20, 24), (255, 255, 255)
PIN = (20, 140, 80)
MASK_TINT, MASK_OPACITY = (40, 220, 160), 0.35
SUPERSAMPLING = 2


def to_picture(tensor: Tensor) -> Image.Image:
    """Return [3, H, W] or [1, 3, H, W] in [0, 1] (values beyond are cut) as an RGB picture."""
    pixels = tensor.detach().float().reshape(3, *tensor.shape[-2:]).clamp(0, 1) * 255
    return Image.fromarray(pixels.round().byte().permute(1, 2, 0).cpu().numpy())


def to_tensor(picture: Image.Image) -> Tensor:
    """Return a picture as RGB, [1, 3, H, W], float32 in [0, 1]."""
    pixels = numpy.array(picture.convert("RGB"), dtype=numpy.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def draw_drag(
    picture: Image.Image, points: DragPoints, *, path: Tensor | None = None, mask: Tensor | None = None
) -> Image.Image:
    """Return an RGB copy of `picture` with handles (red), targets (blue), arrows and numbers over it.

    A pair's reach is a ring around its handle, a pin a green diamond.
    points: scaled to the picture when made for another size. path: [T, N, 2], where each handle was so far, in the
    points' own pixels: drawn yellow, and the handle at its end. mask: [H, W], any size, 1 = may change: tinted.
    """
    result = picture.convert("RGB")
    if mask is not None:
        result = _tinted(result, mask)
    points_here = points.scaled(*result.size)
    handles, trails = points_here.handles, [(handle,) for handle in points_here.handles]
    if path is not None:
        scale = torch.tensor([result.width / points.width, result.height / points.height])
        steps = (path.float().cpu() * scale).transpose(0, 1).tolist()
        trails = [[handle, *map(tuple, trail)] for handle, trail in zip(handles, steps, strict=True)]
        handles = tuple(trail[-1] for trail in trails)
    unit = max(1.0, max(result.size) / 360)
    rings = [(handle, reach) for handle, reach in zip(handles, points_here.reaches, strict=True) if reach]
    corners = [(x + side * reach, y + side * reach) for (x, y), reach in rings for side in (-1, 1)]
    drawn = [*handles, *points_here.targets, *points_here.pins, *corners, *(p for trail in trails for p in trail)]
    overlay = _Overlay(result.size, drawn, unit)
    for handle, reach in rings:
        overlay.ring(handle, reach)
    for trail, handle, target in zip(trails, handles, points_here.targets, strict=True):
        overlay.line(trail, PATH)
        overlay.arrow(handle, target)
    for pin in points_here.pins:
        overlay.diamond(pin, PIN)
    for number, (handle, target) in enumerate(zip(handles, points_here.targets, strict=True), 1):
        label = str(number) if len(handles) > 1 else ""
        overlay.dot(target, TARGET, label)
        overlay.dot(handle, HANDLE, label)
    return overlay.over(result)


class _Overlay:
    """A transparent layer over the part of a picture that holds `points`, drawn large and scaled down."""

    def __init__(self, size: tuple[int, int], points: Sequence[tuple[float, float]], unit: float) -> None:
        margin = 8 * unit
        xs, ys = zip(*points, strict=True)
        self.left, self.top = max(0, int(min(xs) - margin)), max(0, int(min(ys) - margin))
        right, bottom = min(size[0], int(max(xs) + margin) + 1), min(size[1], int(max(ys) + margin) + 1)
        # Half the dot of a point on the far edge lies outside the picture: keep at least one pixel to draw on.
        self.size = (max(right - self.left, 1), max(bottom - self.top, 1))
        self.unit = unit * SUPERSAMPLING
        self.layer = Image.new("RGBA", (self.size[0] * SUPERSAMPLING, self.size[1] * SUPERSAMPLING))
        self.draw = ImageDraw.Draw(self.layer)

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        return (point[0] - self.left) * SUPERSAMPLING - 0.5, (point[1] - self.top) * SUPERSAMPLING - 0.5

    def line(self, points: Sequence[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        places = [self.place(point) for point in points]
        if len(places) > 1:
            self.draw.line(places, (*INK, 255), round(3.2 * self.unit), "curve")
            self.draw.line(places, (*colour, 255), round(1.6 * self.unit), "curve")

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        (x, y), (u, v) = self.place(start), self.place(end)
        length = ((u - x) ** 2 + (v - y) ** 2) ** 0.5
        dot = 4.5 * self.unit
        if length < 2.5 * dot:
            return
        dx, dy = (u - x) / length, (v - y) / length
        tip, neck = length - dot, length - dot - 6 * self.unit
        for colour, width in ((INK, 3.2), (PAPER, 1.6)):
            reach = (width - 1.6) * self.unit / 2
            half = 3 * self.unit + reach
            self.draw.line(((x, y), (x + dx * neck, y + dy * neck)), (*colour, 255), round(width * self.unit))
            corners = ((tip + reach, 0), (neck - reach, half), (neck - reach, -half))
            head = [(x + dx * along - dy * across, y + dy * along + dx * across) for along, across in corners]
            self.draw.polygon(head, (*colour, 255))

    def ring(self, middle: tuple[float, float], radius: float) -> None:
        x, y = self.place(middle)
        for colour, width in ((INK, 3.2), (HANDLE, 1.6)):
            outer = radius * SUPERSAMPLING + width * self.unit / 2
            box = (x - outer, y - outer, x + outer, y + outer)
            self.draw.ellipse(box, outline=(*colour, 255), width=round(width * self.unit))

    def diamond(self, point: tuple[float, float], colour: tuple[int, int, int]) -> None:
        x, y = self.place(point)
        for fill, half in ((INK, 6), (PAPER, 5), (colour, 3.6)):
            half *= self.unit
            self.draw.polygon([(x - half, y), (x, y - half), (x + half, y), (x, y + half)], (*fill, 255))

    def dot(self, point: tuple[float, float], colour: tuple[int, int, int], label: str) -> None:
        radius = (6 if label else 4.5) * self.unit
        x, y = self.place(point)
        for fill, size in ((INK, radius), (PAPER, radius - 0.7 * self.unit), (colour, radius - 1.7 * self.unit)):
            self.draw.ellipse((x - size, y - size, x + size, y + size), (*fill, 255))
        if label:
            font = _font(round((8 if len(label) == 1 else 6) * self.unit))
            self.draw.text((x, y), label, (*PAPER, 255), font, anchor="mm")

    def over(self, picture: Image.Image) -> Image.Image:
        small = self.layer.reduce(SUPERSAMPLING)
        picture.paste(small, (self.left, self.top), small)
        return picture


def contact_sheet(rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], side: int = 256) -> Image.Image:
    """Return a sheet of pictures, each fitted into a square of `side` pixels, with a label above every column."""
    gap, head = max(side // 32, 1), side // 8
    width, height = len(labels) * (side + gap) + gap, len(rows) * (side + gap) + head + gap
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels):
        middle = gap + column * (side + gap) + side / 2
        draw.text((middle, (head + gap) / 2), label, INK, _font(side // 14), anchor="mm")
    for line, row in enumerate(rows):
        for column, picture in enumerate(row):
            scale = side / max(picture.size)
            small = picture.convert("RGB").resize(tuple(max(1, round(s * scale)) for s in picture.size), Image.LANCZOS)
            left = gap + column * (side + gap) + (side - small.width) // 2
            sheet.paste(small, (left, head + gap + line * (side + gap) + (side - small.height) // 2))
    return sheet


def save_gif(frames: Sequence[Image.Image], path: str | os.PathLike, milliseconds: int = 120) -> None:
    """Write frames of one size as an endless GIF whose last frame stays for a while. Errors as `save_picture`."""
    frames = [to_srgb(frame) for frame in frames]
    palette = _shared_palette(frames)
    first, *others = (frame.convert("RGB").quantize(palette=palette) for frame in frames)
    durations = [milliseconds] * len(others) + [12 * milliseconds]
    save_picture(first, path, save_all=True, append_images=others, duration=durations, loop=0)


def save_picture(picture: Image.Image, path: str | os.PathLike, **options) -> None:
    """Write a picture in the format of the path's suffix; the file appears whole or not at all.

    It keeps its colour profile; formats that hold none get sRGB. options: Pillow's, for the format. Raises
    DragNoiseError for an unknown suffix or a folder that cannot be written.
    """
    path = Path(path)
    kind = picture_format(path)
    if kind in ("JPEG", "WEBP"):
        options = {"quality": 95, **options}
    if kind in ("BMP", "GIF"):
        picture = to_srgb(picture)
    options = {"icc_profile": picture.info.get("icc_profile"), **options}
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".dragnoise-") as folder:
            temporary = Path(folder) / "picture"
            picture.save(temporary, kind, **options)
            temporary.replace(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DragNoiseError(f"cannot write {path} ({reason}); choose another folder or format.") from error


def picture_format(path: str | os.PathLike) -> str:
    """Return Pillow's name of the format that the path's suffix asks for; raises DragNoiseError for an unknown one."""
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"}
    formats |= {".tif": "TIFF", ".tiff": "TIFF"}
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise DragNoiseError(f"{path} is no picture file's name; end it in one of {', '.join(formats)}.")
    return formats[suffix]


def _shared_palette(frames: Sequence[Image.Image]) -> Image.Image:
    """Return 256 colours for all frames. The marks' own are among them, however few pixels the marks have."""
    side, marks = 64, (HANDLE, TARGET, PIN, PATH, INK, PAPER)
    sample = Image.new("RGB", ((len(frames) + 1) * side, side))
    for index, frame in enumerate(frames):
        sample.paste(frame.convert("RGB").resize((side, side), Image.NEAREST), (index * side, 0))
    for index, colour in enumerate(marks):
        sample.paste(colour, (len(frames) * side, index * side // len(marks), sample.width, side))
    return sample.quantize(256)


def _tinted(picture: Image.Image, mask: Tensor) -> Image.Image:
    cover = (mask.detach().float().clamp(0, 1) * 255).round().byte().reshape(mask.shape[-2:]).cpu().numpy()
    cover = Image.fromarray(cover).resize(picture.size, Image.BILINEAR)
    strength = Image.new("L", picture.size, round(255 * MASK_OPACITY))
    return Image.composite(Image.new("RGB", picture.size, MASK_TINT), picture, ImageChops.multiply(cover, strength))


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(max(size, 4))

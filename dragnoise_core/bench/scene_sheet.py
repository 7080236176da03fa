"""The contact sheet of `dragnoise bench scenes`."""

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..demo.scenes import KINDS, SIZE
from ..demo.scenes.drags import drag_points
from ..drawing import INK, PAPER, contact_sheet, draw_drag, to_picture
from ..points import DragPoints
from .scene_drags import bench_drag

ROWS = 8
CAPTION = 24  # pixels below a picture


def sheet_indices(count: int) -> list[int]:
    """Return the numbers of up to eight of `count` drags, spread over the set, the kinds and the numbers of pairs."""
    kinds = len(KINDS)
    # Against the diagonals of `design`: along them every drag would have one pair.
    turns = [(row, (row // kinds - row) % kinds) for row in range(ROWS)]
    return sorted({min(row * count // ROWS // kinds * kinds + kind, count - 1) for row, kind in turns})


def picture_path(folder: Path, index: int, name: str) -> Path:
    """Where a method's picture of a drag on the sheet is kept."""
    return folder / "pictures" / f"{index:03d}-{name.replace(':', ' ')}.png"  # no file system minds a space


def scene_sheet(
    folder: Path, seed: int, indices: list[int], names: list[str], rows: list[dict[str, Any]]
) -> Image.Image:
    """Return a sheet with a row for each drag: source with arrows, truth, and every method's kept picture."""
    figures = {(row["index"], row["method"]): row for row in rows}
    lines = []
    for index in indices:
        item = bench_drag(seed, index)
        points = DragPoints.from_pairs(drag_points(item.drag), SIZE, SIZE)
        source = draw_drag(to_picture(item.drag.source_picture()), points, mask=item.mask())
        line = [
            _captioned(source, f"{index}: {item.size}, {item.motion}"),
            _captioned(to_picture(item.drag.truth_picture()), ""),
        ]
        for name in names:
            row = figures[index, name]
            with Image.open(picture_path(folder, index, name)) as picture:
                line.append(_captioned(picture, f"{row['distance']:.1f} px, {row['truth_psnr']:.1f} dB"))
        lines.append(line)
    return contact_sheet(lines, ("source", "truth", *names), SIZE + CAPTION)


def _captioned(picture: Image.Image, text: str) -> Image.Image:
    result = Image.new("RGB", (picture.width, picture.height + CAPTION), PAPER)
    result.paste(picture)
    font = ImageFont.load_default(round(0.7 * CAPTION))
    place = (picture.width / 2, picture.height + CAPTION / 2)
    ImageDraw.Draw(result).text(place, text, INK, font, anchor="mm")
    return result

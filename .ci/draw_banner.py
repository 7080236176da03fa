"""Draws .github/banner.png, the registry's 21:9 picture: `make demo`, then `.venv/bin/python .ci/draw_banner.py`."""

from pathlib import Path

from PIL import Image

from dragnoise_core.demo.scenes.drags import drag_points, example_drags
from dragnoise_core.drawing import draw_drag
from dragnoise_core.points import DragPoints

ROOT = Path(__file__).resolve().parents[1]
SIZE, SIDE, GAP = (1260, 540), 252, 12
BACKGROUND = (24, 26, 32)


def main() -> None:
    banner = Image.new("RGB", SIZE, BACKGROUND)
    drags = example_drags()
    left = (SIZE[0] - len(drags) * SIDE - (len(drags) - 1) * GAP) // 2
    top = (SIZE[1] - 2 * SIDE - GAP) // 2
    for column, (kind, drag) in enumerate(drags.items()):
        before, after = (Image.open(ROOT / "out" / f"{kind}-{name}.png").convert("RGB") for name in ("before", "after"))
        before = draw_drag(before, DragPoints.from_pairs(drag_points(drag), *before.size))
        for row, picture in enumerate((before, after)):
            place = left + column * (SIDE + GAP), top + row * (SIDE + GAP)
            banner.paste(picture.resize((SIDE, SIDE), Image.LANCZOS), place)
    banner.save(ROOT / ".github" / "banner.png", optimize=True)


if __name__ == "__main__":
    main()

"""Draws docs/symptoms/: what goes wrong in a drag, and the same with what the troubleshooting page says turned.

`.venv/bin/python .ci/draw_symptoms.py`, some minutes on a CPU. Everything is run on the demo model.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from dragnoise_core.configuration import PRESETS, OptimisationConfig, preset
from dragnoise_core.demo.scenes.drags import drag_points, example_drags
from dragnoise_core.drawing import contact_sheet, draw_drag, save_picture, to_picture
from dragnoise_core.points import DragPoints
from dragnoise_core.standalone.loaded_model import LoadedModel
from dragnoise_core.standalone.models import load_model
from dragnoise_core.standalone.pipeline import edit_image

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "symptoms"
LABELS = ("asked for", "what you see", "asked for", "turned")
SIDE = 200
AROUND_BOAT = (55, 30, 210, 205)  # left, top, right, bottom of the mask


@dataclass(frozen=True)
class Run:
    """One drag of a scene. pairs: instead of the scene's first one. box: what of the picture may change."""

    kind: str
    config: OptimisationConfig = PRESETS["default"]
    pairs: tuple = ()
    reaches: tuple[float, ...] = ()
    pins: tuple = ()
    box: tuple[int, int, int, int] | None = None

    def pictures(self, model: LoadedModel) -> list[Image.Image]:
        """Return the picture with what is asked for on it, and the dragged one."""
        drag = example_drags()[self.kind]
        picture = to_picture(drag.source_picture())
        pairs = self.pairs or drag_points(drag)[:1]
        points = DragPoints.from_pairs(pairs, *picture.size, self.reaches, self.pins)
        mask = None
        if self.box:
            left, top, right, bottom = self.box
            mask = torch.zeros(picture.height, picture.width)
            mask[top:bottom, left:right] = 1
        result = edit_image(model, picture, points, mask=mask, prompt=self.kind, config=self.config)
        return [draw_drag(picture, points, mask=mask), result.picture]


def paper(**changes) -> OptimisationConfig:
    return preset("paper", **changes)


SYMPTOMS = {
    "under": (Run("mountain", paper(learning_rate=0.03, iterations=8)), Run("mountain", paper(learning_rate=0.03))),
    "over": (Run("face", paper(learning_rate=0.1)), Run("face")),
    "smeared": (
        Run("mountain", preset("default", learning_rate=3.0, bottleneck_change=0.0, background=0.0, warp=0.0)),
        Run("mountain", pins=((45, 22), (150, 55))),
    ),
    "wrong": (
        Run("mountain", pairs=(((70, 52), (100, 52)),)),
        Run("mountain", pairs=(((46, 22), (76, 30)),), reaches=(20.0,)),
    ),
    "background": (Run("boat", paper(learning_rate=0.05)), Run("boat", box=AROUND_BOAT)),
}


def main(wanted: list[str]) -> None:
    """Draw every symptom, or those that are named."""
    model = load_model("demo")
    FOLDER.mkdir(exist_ok=True)
    for name in wanted or SYMPTOMS:
        row = [picture for run in SYMPTOMS[name] for picture in run.pictures(model)]
        save_picture(contact_sheet([row], LABELS, SIDE), FOLDER / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What the point picker is told while a node runs."""

import json
from types import SimpleNamespace

import pytest
import torch
from dragnoise_pack.dragnoise_core.configuration import preset
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.edit import DragNoiseEdit
from dragnoise_pack.nodes.host import progress
from testing_pack.tiny_models import tiny_conditioning, tiny_model, tiny_vae


@pytest.mark.parametrize(("width", "height"), [(61, 83), (64, 64)])
def test_the_live_path_is_on_the_picture_that_the_picker_shows(monkeypatch, width, height):
    sent = []
    monkeypatch.setattr(progress, "PREVIEW_SECONDS", -1.0)
    monkeypatch.setattr(progress, "send", lambda node, event, data: sent.append(data))
    monkeypatch.setattr(DragNoiseEdit, "hidden", SimpleNamespace(unique_id="7"))
    points = DragPoints.from_pairs([((20, 20), (40, 26))], width, height)
    image = torch.rand(1, height, width, 3)
    settings = {"settings": preset("paper", iterations=3), "steps": 4, "strength": 0.7}
    output = DragNoiseEdit.execute(tiny_model(), tiny_vae(), tiny_conditioning(), image, points, **settings)
    final = json.loads(output.ui["dragnoise_path"][0])
    live = json.loads(sent[-1]["path"])
    assert (live["width"], live["height"]) == (final["width"], final["height"]) == (width, height)
    assert live["path"] == final["path"][1:]


def test_the_bar_never_goes_back(monkeypatch):
    values = []
    monkeypatch.setattr(
        progress.comfy.utils.ProgressBar, "update_absolute", lambda bar, value, **_: values.append(value)
    )
    monkeypatch.setattr(DragNoiseEdit, "hidden", SimpleNamespace(unique_id="7"))
    points = DragPoints.from_pairs([((20, 20), (40, 26))], 64, 64)
    settings = {"settings": preset("default", iterations=40), "steps": 50, "strength": 0.7}
    DragNoiseEdit.execute(tiny_model(), tiny_vae(), tiny_conditioning(), torch.rand(1, 64, 64, 3), points, **settings)
    assert values == sorted(values) and values[-1] == 35 + 40 + 35

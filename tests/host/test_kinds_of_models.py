"""What can be dragged is the same list as on the command line; masks and linked texts of strangers are too."""

import json

import comfy.model_base
import pytest
import torch
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.dragnoise_core.images import load_mask
from dragnoise_pack.nodes.host.conversions import read_mask
from dragnoise_pack.nodes.host.sampling import check_kind
from dragnoise_pack.nodes.points import DragNoisePoints
from PIL import Image
from testing_pack.tiny_models import MODELS, SHAPE, tiny_model


def model_of(monkeypatch, **changes):
    """A tiny SD 1.5 with another shape of U-Net."""
    kind, _ = MODELS["sd15"]
    monkeypatch.setitem(MODELS, "changed", (kind, {**SHAPE, **changes}))
    return tiny_model("changed")


@pytest.mark.parametrize(
    ("channels", "kind"), [(9, "an inpainting model"), (8, "an instruction model"), (5, "a depth")]
)
def test_more_input_channels_are_refused_by_kind(monkeypatch, channels, kind):
    with pytest.raises(DragNoiseError, match=f"{kind}.*{channels} channels"):
        check_kind(model_of(monkeypatch, in_channels=channels))


def test_without_a_middle_block_there_is_no_bottleneck(monkeypatch):
    with pytest.raises(DragNoiseError, match="no middle block"):
        check_kind(model_of(monkeypatch, transformer_depth_middle=-2))


def test_a_pruned_middle_block_is_a_bottleneck(monkeypatch):
    model = model_of(monkeypatch, transformer_depth_middle=-1)
    check_kind(model)
    assert len(model.model.diffusion_model.middle_block) == 1


def test_the_refiner_is_named():
    model = tiny_model("sdxl")
    model.model.__class__ = comfy.model_base.SDXLRefiner
    with pytest.raises(DragNoiseError, match="refiner"):
        check_kind(model)


def test_a_mask_means_the_same_to_node_and_command_line(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    picture = Image.linear_gradient("L").convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").rotate(90))
    picture.save(tmp_path / "painted.png")
    Image.linear_gradient("L").save(tmp_path / "opaque.png")
    Image.linear_gradient("L").convert("I;16").save(tmp_path / "deep.png")
    for name in ("painted.png", "opaque.png", "deep.png"):
        assert torch.equal(read_mask(name), load_mask(tmp_path / name))


@pytest.mark.parametrize(
    "text", ["\ud800", "\x1b[31m", json.dumps(["\ud800"]), "x" * 60000, json.dumps([["\x1b" * 9000, 1]])]
)
def test_a_linked_text_is_answered_in_words_that_the_servers_log_can_write(text):
    with pytest.raises(DragNoiseError) as error:
        DragNoisePoints.execute(text)
    assert str(error.value).isprintable() and len(str(error.value)) <= 600
    assert DragNoisePoints.validate_inputs(text).isprintable()

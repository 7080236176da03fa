"""Which files a MODEL comes from, by the prompt, and what they say of themselves."""

from types import SimpleNamespace

import comfy.model_base
import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.nodes.host import origin
from dragnoise_pack.nodes.host.sampling import check_kind
from dragnoise_pack.nodes.inversion import DragNoiseInvert
from safetensors.torch import save_file
from testing_pack.tiny_models import tiny_conditioning, tiny_model

LATENT = {"samples": torch.zeros(1, 4, 16, 16)}


def hidden(file, lora="detail.safetensors"):
    """As the host gives it to node 7, under a checkpoint, a LoRA and a picture."""
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": file}},
        "2": {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": lora, "strength": 1.0}},
        "3": {"class_type": "LoadImage", "inputs": {"image": "turbo.safetensors"}},
        "7": {"class_type": "DragNoiseInvert", "inputs": {"model": ["2", 0], "latent": ["3", 0], "steps": 50}},
    }
    return SimpleNamespace(prompt=prompt, unique_id="7")


def test_the_files_above_the_model_are_found_nearest_first():
    assert origin.model_files(hidden("base.safetensors")) == ["detail.safetensors", "base.safetensors"]


@pytest.mark.parametrize(
    "prompt", [None, {}, {"7": {"inputs": {"model": ["7", 0]}}}, {"7": {"inputs": {"model": [3]}}}]
)
def test_without_a_way_up_there_are_no_files(prompt):
    assert origin.model_files(SimpleNamespace(prompt=prompt, unique_id="7")) == []
    assert origin.model_files(None) == []


@pytest.mark.parametrize(
    "names",
    [("sd_xl_turbo.safetensors",), ("base.ckpt", "sdxl_lightning_4step.safetensors"), ("a/Hyper-SD.safetensors",)],
)
def test_a_distilled_model_is_told_with_what_to_expect(names, monkeypatch):
    monkeypatch.setattr(DragNoiseInvert, "hidden", hidden(*names))
    said = DragNoiseInvert.execute(tiny_model(), tiny_conditioning(), LATENT, 4, 0.7).ui["text"]
    assert names[-1] in said[-1] and "distilled" in said[-1] and "expect" in said[-1]


def test_a_plain_model_is_told_nothing(monkeypatch):
    monkeypatch.setattr(DragNoiseInvert, "hidden", hidden("hyperrealism.safetensors"))
    assert "text" not in (DragNoiseInvert.execute(tiny_model(), tiny_conditioning(), LATENT, 4, 0.7).ui or {})


DECLARED = {
    "key": ({"v_pred": torch.zeros(0)}, None),
    "metadata": ({"x": torch.zeros(1)}, {"modelspec.prediction_type": "v"}),
}


@pytest.mark.parametrize("how", DECLARED)
def test_a_declared_prediction_is_honoured_or_the_file_refused_by_name(how, tmp_path, monkeypatch):
    tensors, metadata = DECLARED[how]
    save_file(tensors, tmp_path / "v.safetensors", metadata)
    find = {("checkpoints", "v.safetensors"): str(tmp_path / "v.safetensors")}
    monkeypatch.setattr(origin.folder_paths, "get_full_path", lambda folder, name: find.get((folder, name)))
    monkeypatch.setattr(DragNoiseInvert, "hidden", hidden("v.safetensors"))
    model = tiny_model()
    with pytest.raises(DragNoiseError, match="v.safetensors' declares that it predicts v.*ModelSamplingDiscrete"):
        DragNoiseInvert.execute(model, tiny_conditioning(), LATENT, 4, 0.7)
    node = ModelSamplingDiscrete
    patch = node.execute if hasattr(node, "execute") else node().patch
    patched = patch(model, "v_prediction", False)[0]
    DragNoiseInvert.execute(patched, tiny_conditioning(), LATENT, 4, 0.7)
    monkeypatch.setattr(DragNoiseInvert, "hidden", hidden("gone.safetensors"))
    DragNoiseInvert.execute(model, tiny_conditioning(), LATENT, 4, 0.7)


@pytest.mark.parametrize("kind", [comfy.model_base.Lotus, comfy.model_base.SD21UNCLIP])
def test_models_that_take_more_than_a_prompt_are_refused(kind):
    model = tiny_model("sdxl")
    model.model.__class__ = kind
    with pytest.raises(DragNoiseError, match=f"{kind.__name__} takes conditions that no prompt gives"):
        check_kind(model)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (1, 40)])
def test_a_very_small_picture_is_refused_before_the_inversion(size):
    with pytest.raises(DragNoiseError, match="too small to drag"):
        DragNoiseInvert.execute(tiny_model(), tiny_conditioning(), {"samples": torch.zeros(1, 4, *size)}, 4, 0.7)

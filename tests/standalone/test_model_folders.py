"""Diffusers folders whose settings or files are not as they should be: one true sentence each."""

import json
import shutil

import pytest
import torch
from original_names import save_original_checkpoint
from safetensors.torch import load_file, save_file

from dragnoise_core.declared import declared
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.standalone.models import load_model


@pytest.fixture
def folder(model_folders, tmp_path):
    """A copy of the SD folder that a test may change."""
    return shutil.copytree(model_folders["sd"], tmp_path / "model")


def refused(name, *words, **options):
    with pytest.raises(DragNoiseError) as caught:
        load_model(str(name), "cpu", **options)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "; " in message and str(name) in message


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_pickled_or_missing_name_their_part(folder, part):
    (weights,) = (folder / part).glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))
    refused(folder, f"its {part} as", ".bin", "convert it to .safetensors")
    weights.with_suffix(".bin").unlink()
    refused(folder, f"no .safetensors weights of its {part}")


SETTINGS = [
    ("unet/config.json", {"in_channels": [4]}, "[4] channels"),
    ("unet/config.json", {"class_embed_type": "projection"}, "conditions that no prompt gives"),
    ("unet/config.json", {"addition_embed_type": "image"}, "conditions that no prompt gives"),
    *(("unet/config.json", {"sample_size": size}, "sample_size") for size in (0, -5, 1e9, "64", True, [64], {}, "nan")),
    *(("vae/config.json", {"scaling_factor": scale}, "scaling factor") for scale in (None, 0, "x", float("inf"))),
    ("vae/config.json", {"shift_factor": "x"}, "shift"),
    ("vae/config.json", {"block_out_channels": [8]}, "cannot be loaded"),
    ("text_encoder/config.json", {"hidden_size": "x"}, "cannot be loaded"),
    ("scheduler/scheduler_config.json", {"beta_start": 5}, "rising noise levels"),
    ("scheduler/scheduler_config.json", {"trained_betas": [0.1] * 10}, "rising noise levels"),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": "1000"}, "'1000' training steps"),
]


@pytest.mark.parametrize(("file", "changes", "word"), SETTINGS)
def test_settings_that_no_model_has_are_refused(folder, file, changes, word):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    refused(folder, word)


def test_an_unclip_file_is_refused_although_it_looks_like_a_base_model(model_folders, tmp_path):
    path = tmp_path / "model.safetensors"
    save_original_checkpoint(model_folders["sd"], path)
    save_file({**load_file(path), "model.diffusion_model.label_emb.0.0.weight": torch.zeros(4, 4)}, path)
    refused(path, "conditions that no prompt gives", config=str(model_folders["sd"]))


def test_what_a_file_declares():
    v, zero = {"prediction_type": "v_prediction"}, {"rescale_betas_zero_snr": True}
    assert declared("x", ["v_pred", "ztsnr"], {}) == {**v, **zero}
    assert declared("x", [], {"modelspec.prediction_type": "v_prediction"}) == v
    # Epsilon cannot be predicted from pure noise; the host passes the word over as well.
    assert declared("x", ["ztsnr"], {}) == {}

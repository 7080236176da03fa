"""Loading: the same results as diffusers' own pipelines, and sentences for what is missing or cannot be dragged."""

import copy
import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from original_names import save_original_checkpoint
from safetensors.torch import save_file
from tiny_pipelines import tiny_autoencoder

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas, to_variance_exploding
from dragnoise_core.standalone import diffusers_models
from dragnoise_core.standalone.loaded_model import freeze, freeze_autoencoder
from dragnoise_core.standalone.models import load_model


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def folder(model_folders, tmp_path):
    """A copy of the SD folder that a test may spoil."""
    return shutil.copytree(model_folders["sd"], tmp_path / "model")


@pytest.mark.parametrize("name", ["sd", "sd_v", "sdxl"])
def test_sampling_equals_diffusers_pipeline(model_folders, name):
    kind = StableDiffusionXLPipeline if name == "sdxl" else StableDiffusionPipeline
    options = {} if name == "sdxl" else {"safety_checker": None}
    pipeline = kind.from_pretrained(model_folders[name], **options)
    pipeline.set_progress_bar_config(disable=True)
    # The noise level under the last step is the table's first, as in Stable Diffusion's own configuration.
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, set_alpha_to_one=False)
    z = torch.randn(1, 4, 8, 6, generator=torch.Generator().manual_seed(0))
    wanted = pipeline("a cab", latents=z, num_inference_steps=10, guidance_scale=1.0, height=64, width=48,
                      output_type="pt").images  # fmt: skip

    model = load_model(str(model_folders[name]), "cpu")
    sigmas = ddim_sigmas(model.sigmas, 10)
    latent = sample(model.split_unet("a cab", 48, 64), to_variance_exploding(z, float(sigmas[0])), sigmas)
    torch.testing.assert_close(model.decode(latent).clamp(0, 1), wanted, rtol=0, atol=2e-4)


def test_encoding_is_the_posterior_mean_in_model_units(model_folders):
    model = load_model(str(model_folders["sd"]), "cpu")
    vae = StableDiffusionPipeline.from_pretrained(model_folders["sd"], safety_checker=None).vae
    picture = torch.rand(1, 3, 64, 48)
    moments = vae.quant_conv(vae.encoder(picture * 2 - 1))
    torch.testing.assert_close(model.encode(picture), moments[:, :4].detach() * vae.config.scaling_factor)


@torch.no_grad()
def test_the_autoencoder_that_saves_memory_gives_the_same_bits():
    wanted = freeze(tiny_autoencoder(), torch.device("cpu"), torch.float32)
    found = freeze_autoencoder(copy.deepcopy(wanted), torch.device("cpu"), torch.float32)
    picture, latent = torch.rand(1, 3, 64, 48), torch.randn(1, 4, 8, 6)
    assert torch.equal(found.encode(picture).latent_dist.mean, wanted.encode(picture).latent_dist.mean)
    assert torch.equal(found.decode(latent).sample, wanted.decode(latent).sample)


def test_what_is_loaded_is_frozen_and_described(model_folders):
    model = load_model(str(model_folders["sd_v"]), "cpu", torch.bfloat16)
    assert model.unet.dtype == torch.bfloat16 and not model.unet.training
    assert not any(weight.requires_grad for weight in model.unet.parameters())
    assert model.prediction_type == "v_prediction" and model.native_side == 256
    torch.testing.assert_close(model.sigmas, scaled_linear_sigmas(), rtol=1e-5, atol=0)


def test_nothing_is_fetched_for_a_local_folder(model_folders, monkeypatch):
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: pytest.fail("network"))
    load_model(str(model_folders["sd"]), "cpu")


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_checkpoint_file_is_the_folder_it_was_made_from(model_folders, tmp_path, name):
    source = model_folders[name]
    save_original_checkpoint(source, tmp_path / "model.safetensors")
    loaded = load_model(str(tmp_path / "model.safetensors"), "cpu", config=str(source))
    wanted = load_model(str(source), "cpu")
    for key, weight in wanted.unet.state_dict().items():
        assert torch.equal(weight, loaded.unet.state_dict()[key]), key
    picture = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded.encode(picture), wanted.encode(picture))
    torch.testing.assert_close(loaded.conditions("abc", 64, 64), wanted.conditions("abc", 64, 64))


def refused(name, words, **options):
    with pytest.raises(DragNoiseError, match=words) as caught:
        load_model(str(name), "cpu", **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [("FluxPipeline", "FluxPipeline"), ("StableDiffusion3Pipeline", "StableDiffusion3Pipeline"),
     ("StableVideoDiffusionPipeline", "Video"), ("StableDiffusionInpaintPipeline", "Inpaint"), (["m", "Own"], "Own")],
)  # fmt: skip
def test_other_architectures_are_refused_by_name(folder, pipeline, words):
    change_json(folder / "model_index.json", _class_name=pipeline if isinstance(pipeline, str) else str(pipeline))
    refused(folder, words)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("unet/config.json", {"in_channels": 9}, "inpainting model"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "distilled"),
        ("unet/config.json", {"addition_embed_type": "image"}, "conditions that no prompt gives"),
        ("scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, "LCMScheduler"),
        ("scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 50}, "50 training steps"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts 'sample'"),
        ("model_index.json", {"unet": ["own_code", "UNet2DConditionModel"]}, "own code for its unet"),
        ("model_index.json", {"unet": ["diffusers", "UNet3DConditionModel"]}, "UNet3DConditionModel"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderDC"]}, "AutoencoderDC"),
        ("model_index.json", {"text_encoder": [None, None]}, "no text_encoder"),
    ],
)
def test_models_that_cannot_be_dragged_are_refused_by_name(folder, file, changes, words):
    change_json(folder / file, **changes)
    refused(folder, words)


@pytest.mark.parametrize(
    "file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json",
             "unet/diffusion_pytorch_model.safetensors", "vae/config.json", "text_encoder/model.safetensors"],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_missing_and_damaged_files_are_a_sentence(folder, file, damage):
    if damage == "missing":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(b"{not what it should be")
    refused(folder, str(folder))


def test_pickled_weights_are_never_read(folder):
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet/diffusion_pytorch_model.bin")
    refused(folder, "never read")
    for suffix in ("ckpt", "pt", "bin"):
        torch.save({}, folder / f"model.{suffix}")
        refused(folder / f"model.{suffix}", "pickled")


def test_names_that_are_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "is no model")
    refused(tmp_path / "none.safetensors", "no checkpoint at")
    refused("/no/such/folder", "is no model")
    refused(tmp_path, "no model_index.json")


def test_hub_models_offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("nobody/nothing", "neither the hub nor its cache")


def test_hub_models_in_the_cache_load_offline(model_folders, tmp_path, monkeypatch):
    cache, revision = tmp_path / "models--owner--name", "0123456789" * 4
    shutil.copytree(model_folders["sd"], cache / "snapshots" / revision)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = load_model("owner/name", "cpu")
    wanted = load_model(str(model_folders["sd"]), "cpu")
    assert torch.equal(model.conditions("a", 8, 8)[0], wanted.conditions("a", 8, 8)[0])


def test_checkpoints_offline_say_what_is_missing(model_folders, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    save_original_checkpoint(model_folders["sd"], tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", "configuration and tokenizer come from stable-diffusion-v1-5")


def test_a_checkpoint_that_does_not_say_what_it_predicts_needs_its_configuration(tmp_path):
    tensors = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3),
        "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, 1024),
        "model.diffusion_model.middle_block.0.x": torch.zeros(1),
        "first_stage_model.x": torch.zeros(1),
        "cond_stage_model.x": torch.zeros(1),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", "SD 2.x.*--model-config")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lora_unet_down.alpha": (1,)}, "LoRA"),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": (4,)}, "flux"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (8, 9, 3, 3), "first_stage_model.x": (1,)}, "inpainting"),
    ],
)
def test_other_checkpoints_are_refused_by_name(tmp_path, tensors, words):
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", words)


def test_files_that_only_claim_to_be_safetensors(tmp_path):
    for content in (b"", b"x" * 100, b"\xff" * 8 + b"{}"):
        (tmp_path / "model.safetensors").write_bytes(content)
        refused(tmp_path / "model.safetensors", "no safetensors file")


def test_a_missing_transformers_is_named(model_folders, monkeypatch):
    monkeypatch.setattr(diffusers_models.importlib.util, "find_spec", lambda name: None)
    refused(model_folders["sd"], "pip install transformers")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta:x"])
def test_unusable_devices(device):
    with pytest.raises(DragNoiseError, match="device"):
        load_model("demo", device)

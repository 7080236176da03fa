"""Checkpoints as people have them: what they declare is honoured, and what cannot be dragged is refused by its name."""

import json
import logging
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from original_names import save_original_checkpoint
from safetensors.torch import load_file, save_file
from tiny_pipelines import tiny_pipeline

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import check_sigmas, ddim_sigmas, to_variance_exploding
from dragnoise_core.standalone.models import load_model


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def folder(model_folders, tmp_path):
    """A copy of the SD folder that a test may change."""
    return shutil.copytree(model_folders["sd"], tmp_path / "model")


def checkpoint(folder, path, metadata=None, without=(), **extra):
    """Write the folder's weights as one file with more tensors and metadata, without the tensors of some prefixes."""
    save_original_checkpoint(folder, path)
    tensors = {name: value for name, value in load_file(path).items() if not name.startswith(tuple(without))}
    save_file({**tensors, **extra}, path, metadata)
    return str(path)


def refused(name, *words, **options):
    with pytest.raises(DragNoiseError) as caught:
        load_model(str(name), "cpu", **options)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "; " in message and len(message) < 600


EMPTY = torch.zeros(0)


@pytest.mark.parametrize(
    ("extra", "metadata", "prediction", "highest"),
    [
        ({}, None, "epsilon", 14.6),
        ({"v_pred": EMPTY}, None, "v_prediction", 14.6),
        ({"v_pred": EMPTY, "ztsnr": EMPTY}, None, "v_prediction", 4096),
        ({}, {"modelspec.prediction_type": "v"}, "v_prediction", 14.6),
        ({}, {"modelspec.prediction_type": "epsilon"}, "epsilon", 14.6),
    ],
)
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_what_a_file_declares_is_honoured(model_folders, tmp_path, kind, extra, metadata, prediction, highest):
    name = checkpoint(model_folders[kind], tmp_path / "model.safetensors", metadata, **extra)
    model = load_model(name, "cpu", config=str(model_folders[kind]))
    assert model.prediction_type == prediction
    assert float(model.sigmas[-1]) == pytest.approx(highest, rel=0.01)


@pytest.mark.parametrize("key", ["edm_vpred.sigma_max", "edm_vpred.sigma_min", "edm_mean"])
def test_files_of_continuous_schedules_are_refused(model_folders, tmp_path, key):
    name = checkpoint(model_folders["sdxl"], tmp_path / "model.safetensors", **{key: torch.ones(())})
    words = ["playground"] if key == "edm_mean" else ["continuous schedule", key]
    refused(name, *words, config=str(model_folders["sdxl"]))


def test_a_prediction_that_nothing_here_knows_is_refused(model_folders, tmp_path):
    name = checkpoint(model_folders["sd"], tmp_path / "m.safetensors", {"modelspec.prediction_type": "\x1bflow"})
    refused(name, "predicts", "flow", config=str(model_folders["sd"]))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_file_that_says_nothing_takes_its_configurations_word(model_folders, tmp_path, prediction):
    name = checkpoint(model_folders["sd"], tmp_path / "model.safetensors")
    config = model_folders["sd_v" if prediction == "v_prediction" else "sd"]
    assert load_model(name, "cpu", config=str(config)).prediction_type == prediction


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 333, 500, 999])
def test_zero_terminal_snr_gives_a_schedule_of_any_number_of_steps(folder, steps):
    change_json(folder / "scheduler/scheduler_config.json", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    model = load_model(str(folder), "cpu")
    check_sigmas(ddim_sigmas(model.sigmas, steps, 1.0))
    # Lin et al. 2024: the signal's share of the last step is zero, that of the first stays.
    betas = DDIMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod
    torch.testing.assert_close(model.sigmas[:-1], ((1 - betas) / betas).sqrt()[:-1].double(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("changes", [{"timestep_type": "continuous"}, {"sigma_max": 120.0, "sigma_min": 0.002}])
def test_folders_of_continuous_schedules_are_refused(folder, changes):
    change_json(folder / "scheduler/scheduler_config.json", _class_name="EulerDiscreteScheduler", **changes)
    refused(folder, "continuous schedule")


def test_long_schedules_are_not_printed_whole():
    with pytest.raises(DragNoiseError, match="501 sigmas does not descend: number 1 is inf") as error:
        check_sigmas(torch.tensor([torch.inf, *torch.linspace(10, 1, 500)]))
    assert len(str(error.value)) < 200


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A folder whose middle block has no attention, as SSD-1B and Segmind Vega have it."""
    root = tmp_path_factory.mktemp("pruned")
    tiny_pipeline(root / "tokenizer", mid_block_type="UNetMidBlock2D").save_pretrained(root / "model")
    return root / "model"


def test_a_pruned_middle_block_is_a_bottleneck(pruned, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(pruned, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, set_alpha_to_one=False)
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = pipeline("a", latents=z, num_inference_steps=4, guidance_scale=1.0, height=64, width=64,
                      output_type="pt").images  # fmt: skip
    file = checkpoint(pruned, tmp_path / "model.safetensors")
    for model in (load_model(str(pruned), "cpu"), load_model(file, "cpu", config=str(pruned))):
        sigmas = ddim_sigmas(model.sigmas, 4)
        latent = sample(model.split_unet("a", 64, 64), to_variance_exploding(z, float(sigmas[0])), sigmas)
        torch.testing.assert_close(model.decode(latent).clamp(0, 1), wanted, rtol=0, atol=2e-4)


def test_without_a_middle_block_there_is_no_bottleneck(folder, model_folders, tmp_path):
    change_json(folder / "unet/config.json", mid_block_type=None)
    refused(folder, "no middle block")
    without = ["model.diffusion_model.middle_block."]
    name = checkpoint(model_folders["sd"], tmp_path / "model.safetensors", without=without)
    refused(name, "no middle block", config=str(model_folders["sd"]))


@pytest.mark.parametrize(
    ("channels", "kind"), [(9, "an inpainting model"), (8, "an instruction model"), (5, "a depth")]
)
@pytest.mark.parametrize("source", ["sd", "sdxl"])
def test_more_input_channels_are_refused_by_kind_in_folder_and_file(model_folders, tmp_path, source, channels, kind):
    copy = shutil.copytree(model_folders[source], tmp_path / "model")
    change_json(copy / "unet/config.json", in_channels=channels)
    refused(copy, kind, f"{channels} channels")
    entry = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, channels, 3, 3)}
    name = checkpoint(model_folders[source], tmp_path / "model.safetensors", **entry)
    refused(name, kind, f"{channels} channels", config=str(model_folders[source]))


def test_the_refiner_is_named(model_folders, tmp_path):
    copy = shutil.copytree(model_folders["sdxl"], tmp_path / "model")
    change_json(copy / "model_index.json", _class_name="StableDiffusionXLImg2ImgPipeline",
                requires_aesthetics_score=True, text_encoder=[None, None])  # fmt: skip
    refused(copy, "refiner", "base model")
    key = "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias"
    save_file({key: torch.zeros(1)}, tmp_path / "refiner.safetensors")
    refused(tmp_path / "refiner.safetensors", "refiner")


@pytest.mark.parametrize("name", ["sdxl-turbo", "dreamshaper_lightning_8step", "Hyper-SD15", "lcm_merge"])
def test_distilled_models_load_and_say_what_to_expect(model_folders, tmp_path, name, caplog):
    copy = shutil.copytree(model_folders["sd"], tmp_path / name)
    with caplog.at_level(logging.WARNING):
        load_model(str(copy), "cpu")
    assert "distilled" in caplog.text and "expect" in caplog.text and "base model" in caplog.text


@pytest.mark.parametrize("name", ["hyperion", "turbocharged", "calcmodel"])
def test_other_names_say_nothing(model_folders, tmp_path, name, caplog):
    load_model(str(shutil.copytree(model_folders["sd"], tmp_path / name)), "cpu")
    assert "distilled" not in caplog.text


def half(folder, part, keep_plain=False):
    for path in list((folder / part).glob("*.safetensors")):
        shutil.copy(path, path.with_suffix(".fp16.safetensors"))
        if not keep_plain:
            path.unlink()


@pytest.mark.parametrize("parts", [("unet", "vae", "text_encoder"), ("unet",), ("vae",)])
def test_folders_with_half_precision_files_only_load(folder, model_folders, parts):
    for part in parts:
        half(folder, part)
    model, wanted = load_model(str(folder), "cpu"), load_model(str(model_folders["sd"]), "cpu")
    assert all(torch.equal(a, b) for a, b in zip(model.unet.parameters(), wanted.unet.parameters(), strict=True))
    assert torch.equal(model.conditions("a", 8, 8)[0], wanted.conditions("a", 8, 8)[0])


def test_plain_weights_are_preferred_to_another_variant(folder):
    half(folder, "unet", keep_plain=True)
    (folder / "unet/diffusion_pytorch_model.fp16.safetensors").write_bytes(b"damaged")
    load_model(str(folder), "cpu")


def test_a_sharded_variant_loads(model_folders, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(model_folders["sd"], safety_checker=None)
    pipeline.save_pretrained(tmp_path / "model", variant="fp16", max_shard_size="1MB")
    assert len(list((tmp_path / "model/unet").glob("*.fp16-0*.safetensors"))) > 1
    load_model(str(tmp_path / "model"), "cpu")


@pytest.mark.parametrize("keep", [(), ("unet", "vae")])
def test_hub_models_of_half_precision_files_only(model_folders, tmp_path, monkeypatch, keep):
    """A hub that, as the real one, gives what the patterns ask for."""
    from huggingface_hub.utils import filter_repo_objects

    source = shutil.copytree(model_folders["sd"], tmp_path / "source")
    for part in {"unet", "vae", "text_encoder"} - set(keep):
        half(source, part)

    def download(name, allow_patterns, ignore_patterns):
        names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        for file in filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (tmp_path / "cache" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file, tmp_path / "cache" / file)
        return str(tmp_path / "cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    load_model("owner/name", "cpu")
    assert not [path for path in (tmp_path / "cache").rglob("*.fp16.*") if path.parent.name in keep]


@pytest.mark.parametrize(("size", "side"), [(None, 512), ([32, 128], 64), ((16, 16), 16), (32, 32)])
def test_the_native_side_of_every_kind_of_sample_size(folder, size, side):
    change_json(folder / "unet/config.json", sample_size=size)
    assert load_model(str(folder), "cpu").native_side == (512 if size is None else side * 8)


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae", "unet"])
def test_a_folder_without_one_of_its_parts_names_it(model_folders, tmp_path, part):
    copy = shutil.copytree(model_folders["sdxl"], tmp_path / "model")
    change_json(copy / "model_index.json", **{part: [None, None]})
    refused(copy, f"no {part},")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({key: value for key, value in index.items() if key != part}))
    refused(copy, f"no {part},")


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_file_without_a_text_encoder(model_folders, tmp_path, kind):
    without = ["cond_stage_model.", "conditioner."]
    name = checkpoint(model_folders[kind], tmp_path / "model.safetensors", without=without)
    refused(name, "text encoder" if kind == "sd" else str(name), config=str(model_folders["sd"]))


@pytest.mark.parametrize(
    "pipeline",
    ["StableDiffusionControlNetPipeline", "StableDiffusionInstructPix2PixPipeline", "\ud800", None, 7, ["x"]],
)
def test_folders_of_other_pipelines_are_refused_by_name(folder, pipeline):
    change_json(folder / "model_index.json", _class_name=pipeline)
    refused(folder, "cannot be dragged", "StableDiffusionPipeline")


def test_a_controlnet_folder_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))
    refused(tmp_path, "'ControlNetModel' alone", "base model")


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_quantised_parts_are_refused_before_anything_is_imported(folder, part):
    change_json(
        folder / part / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
    )
    refused(folder, f"{part} is quantised")


def test_parts_that_do_not_belong_together(tmp_path):
    tiny_pipeline(tmp_path / "tokenizer", cross_attention_dim=24).save_pretrained(tmp_path / "model")
    refused(tmp_path / "model", "text encoder that gives 16", "takes 24")

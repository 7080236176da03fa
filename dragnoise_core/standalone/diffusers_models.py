"""Stable Diffusion models through diffusers' own loaders: checked by name and shape before any weight is read."""

import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.utils import logging
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import DragNoiseError, quoted
from ..schedule import sigmas_from_betas
from .diffusers_unet import PREDICTION_TYPES
from .loaded_model import LoadedModel, freeze, freeze_autoencoder
from .quick_layers import quicken

# Stable Diffusion 1.x and 2.x, and SDXL: the pipelines whose parts make a model that can be dragged.
PIPELINES = {
    "StableDiffusionPipeline": "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLPipeline",
}
CHECKPOINTS = {"v1": "StableDiffusionPipeline", "v2": "StableDiffusionPipeline", "xl_base": "StableDiffusionXLPipeline"}
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
CONFIGURATION_FILES = ["model_index.json", "*/*.json", "*/*.txt"]
WEIGHT_FILES = [
    "unet/diffusion_pytorch_model*.safetensors", "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
]  # fmt: skip
# Copies of the same weights in other precisions, which a hub repository may hold beside the plain ones.
LEFT_OUT = ["*.fp16.safetensors", "*.non_ema.safetensors", "*.fp16-*.safetensors", "*.non_ema-*.safetensors"]
TRAINING_STEPS = 1000
# What diffusers, transformers and the hub's client raise for files that are missing, damaged or unreachable.
LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError)


def load_folder(folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Load a folder that diffusers' `save_pretrained` wrote. No network. Raises DragNoiseError as `load_model`."""
    kind = _check_folder(folder, name)

    def load(pipeline_class: Any) -> Any:
        return pipeline_class.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, **_unused(kind)
        )

    return _loaded(name, _pipeline(kind, name, load), device, dtype)


def load_hub(name: str, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Load a model of the hub, from its cache when offline. Raises DragNoiseError as `load_model`."""
    folder = _from_hub(name, CONFIGURATION_FILES, f"no model {quoted(name)}: no folder of that name here")
    _check_folder(folder, name)
    folder = _from_hub(name, CONFIGURATION_FILES + WEIGHT_FILES, f"no weights of {quoted(name)}")
    return load_folder(folder, name, device, dtype)


def load_checkpoint(path: Path, config: str | None, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Load a .safetensors checkpoint with Stable Diffusion's original names. Raises DragNoiseError as `load_model`.

    config: a local diffusers folder with the configuration and the tokenizer; the hub's for this kind of checkpoint
    when left out, which needs the network once.
    """
    kind, hub_config = _checkpoint_kind(path)
    if config is None and hub_config.endswith("stable-diffusion-2-1"):
        raise DragNoiseError(
            f"{path} is a checkpoint of SD 2.x, which does not say whether it predicts epsilon or v; name a diffusers "
            "folder with its configuration (on the command line: --model-config)."
        )
    if config is None:
        reason = f"{path} holds weights only, its configuration and tokenizer come from {hub_config}"
        folder = _from_hub(hub_config, CONFIGURATION_FILES, reason)
    else:
        folder = Path(config)
    if _check_folder(folder, str(folder)) != kind:
        raise DragNoiseError(f"{path} is for {kind}, the configuration in {folder} is not; give a matching one.")

    def load(pipeline_class: Any) -> Any:
        return pipeline_class.from_single_file(
            str(path), config=str(folder), dtype=dtype, local_files_only=True, **_unused(kind)
        )

    return _loaded(str(path), _pipeline(kind, str(path), load), device, dtype)


def _check_folder(folder: Path, name: str) -> str:
    """Return the pipeline class to load a diffusers folder with, or refuse it by name; reads JSON only."""
    index = _json(folder, "model_index.json", name)
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINES:
        raise DragNoiseError(f"{name} is a {pipeline}, not Stable Diffusion with a U-Net; give SD 1.x, SD 2.x or SDXL.")
    for part in PARTS:
        library, part_class = index.get(part) or (None, None)
        if part in ("unet", "vae", "scheduler", "text_encoder") and part_class is None:
            raise DragNoiseError(f"{name} has no {part}, so it cannot edit alone; give a complete base model.")
        if library not in ("diffusers", "transformers", None):
            raise DragNoiseError(f"{name} brings own code for its {part}, which is never run; give a plain model.")
        if part == "unet" and part_class != "UNet2DConditionModel":
            raise DragNoiseError(f"{name} has a {part_class}, not an image U-Net; give SD 1.x, SD 2.x or SDXL.")
        if part == "vae" and part_class != "AutoencoderKL":
            raise DragNoiseError(f"{name} has the autoencoder {part_class}; AutoencoderKL is needed.")
    _check_scheduler(_json(folder, "scheduler/scheduler_config.json", name), name)
    _check_unet(_json(folder, "unet/config.json", name), name)
    return PIPELINES[pipeline]


def _check_scheduler(config: dict, name: str) -> None:
    scheduler, steps = str(config.get("_class_name")), config.get("num_train_timesteps", TRAINING_STEPS)
    if scheduler.startswith(("LCM", "TCD", "EDM", "FlowMatch")) or steps != TRAINING_STEPS:
        raise DragNoiseError(
            f"{name} uses {scheduler} with {steps} training steps, a distilled or flow model without the noise levels "
            "that inversion needs; give the base model that it was made from."
        )
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTION_TYPES:
        raise DragNoiseError(f"{name} predicts {quoted(prediction)}; give a model of {' or '.join(PREDICTION_TYPES)}.")


def _check_unet(config: dict, name: str) -> None:
    channels = config.get("in_channels", 4)
    if channels != 4:
        kinds = {9: "an inpainting model", 8: "an instruction model", 5: "a depth model", 7: "an upscaler"}
        kind = kinds.get(channels, "another kind of model")
        raise DragNoiseError(f"{name} is {kind}, its U-Net takes {channels} channels; give one of 4.")
    if config.get("time_cond_proj_dim") is not None:
        raise DragNoiseError(f"{name} is distilled (LCM): its U-Net takes a guidance scale; give its base model.")
    if config.get("addition_embed_type") not in (None, "text_time") or config.get("class_embed_type") is not None:
        raise DragNoiseError(f"{name} takes conditions that no prompt gives; give SD 1.x, SD 2.x or SDXL.")


def _checkpoint_kind(path: Path) -> tuple[str, str]:
    """Return a checkpoint's pipeline class and the hub id of its configuration; reads the file's header only."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS, infer_diffusers_model_type

    try:
        with safe_open(path, framework="pt") as file:
            header = {key: SimpleNamespace(shape=tuple(file.get_slice(key).get_shape())) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise DragNoiseError(f"{path} is no safetensors file ({error}); download or convert it again.") from error
    kind = infer_diffusers_model_type(header)
    if kind not in CHECKPOINTS:
        raise DragNoiseError(f"{path} is a {kind} checkpoint; give a base model of SD 1.x, SD 2.x or SDXL.")
    # The library takes whatever it does not know for SD 1.x.
    entry = header.get("model.diffusion_model.input_blocks.0.0.weight")
    if entry is None or not any(key.startswith("first_stage_model.") for key in header):
        raise DragNoiseError(f"{path} lacks a Stable Diffusion U-Net or autoencoder (a LoRA?); give a full checkpoint.")
    _check_unet({"in_channels": entry.shape[1]}, str(path))
    return CHECKPOINTS[kind], DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]


def _from_hub(name: str, patterns: list[str], reason: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=LEFT_OUT))
    except errors.LocalEntryNotFoundError as error:
        raise DragNoiseError(f"{reason}, and neither the hub nor its cache can give it; go online once.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise DragNoiseError(f"{reason}, and the hub has no (public) model {quoted(name)}; check the name.") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise DragNoiseError(f"{reason}, and the hub refused ({_first_line(error)}); try again.") from error


def _pipeline(kind: str, name: str, load: Callable[[Any], Any]) -> Any:
    """Return what `load` makes of the pipeline class `kind`; its errors become one sentence."""
    if importlib.util.find_spec("transformers") is None:
        raise DragNoiseError(f"{name} needs the package transformers for its text encoder; pip install transformers.")
    with _quiet():
        import diffusers

        try:
            return load(getattr(diffusers, kind))
        except LOADING_ERRORS as error:
            raise DragNoiseError(f"{name} cannot be loaded ({_first_line(error)}); download it again.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' bars, hints and deprecations from the user, who can do nothing about them."""
    import transformers

    loggers = (logging, transformers.logging)
    before = [(logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
        logger.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, (verbosity, has_bar) in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)
            if has_bar:
                logger.enable_progress_bar()


def _loaded(name: str, pipeline: Any, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    unet, vae = quicken(freeze(pipeline.unet, device, dtype)), pipeline.vae
    is_xl = hasattr(pipeline, "text_encoder_2")
    # SDXL's autoencoder overflows in float16 and says so; others say so too, by default, and do not.
    vae = freeze_autoencoder(vae, device, torch.float32 if is_xl and vae.config.force_upcast else dtype)
    encoders = [freeze(pipeline.text_encoder, device, dtype)]
    if is_xl:
        encoders.append(freeze(pipeline.text_encoder_2, device, dtype))
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0

    @torch.no_grad()
    def encode(picture: Tensor, generator: torch.Generator | None = None, draws: int = 1) -> Tensor:
        posterior = vae.encode((picture * 2 - 1).to(device, vae.dtype)).latent_dist
        latent = posterior.mean if generator is None else torch.cat([posterior.sample(generator) for _ in range(draws)])
        return (latent.float() - shift) * scale

    @torch.no_grad()
    def decode(latent: Tensor) -> Tensor:
        return vae.decode((latent / scale + shift).to(device, vae.dtype)).sample.float() / 2 + 0.5

    @torch.no_grad()
    def conditions(prompt: str, width: int, height: int) -> tuple[Tensor, dict[str, Tensor] | None]:
        encoded = pipeline.encode_prompt(
            prompt, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        if not is_xl:
            return encoded[0], None
        # Original size, crop and target size (SDXL, Podell et al. 2023, section 2.2), each height first.
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], device=device)
        return encoded[0], {"text_embeds": encoded[2], "time_ids": time_ids}

    schedule = DDIMScheduler.from_config(pipeline.scheduler.config)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    return LoadedModel(
        name=name,
        unet=unet,
        sigmas=sigmas_from_betas(schedule.betas),
        prediction_type=schedule.config.prediction_type,
        native_side=int(unet.config.sample_size) * factor,
        encode=encode,
        decode=decode,
        conditions=conditions,
    )


def _unused(kind: str) -> dict[str, Any]:
    return {"safety_checker": None, "requires_safety_checker": False} if kind == "StableDiffusionPipeline" else {}


def _json(folder: Path, name: str, model: str) -> dict:
    path = folder / name
    if not path.is_file():
        raise DragNoiseError(f"{model} has no {name}, so it is no complete diffusers folder; check the path.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DragNoiseError(f"{path} cannot be read ({error}); download the model again.") from error
    if not isinstance(value, dict):
        raise DragNoiseError(f"{path} holds no settings; download the model again.")
    return value


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"

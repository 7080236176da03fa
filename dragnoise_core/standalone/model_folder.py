"""A diffusers folder, checked by its settings and its files' names before any weight is read."""

import json
import math
import re
from pathlib import Path
from typing import Any

from ..draggable import LATENT_CHANNELS, check_conditions, check_not_refiner, check_unet_kind
from ..errors import DragNoiseError, quoted
from ..schedule import TRAIN_STEPS
from .diffusers_unet import PREDICTION_TYPES

# Stable Diffusion 1.x and 2.x, and SDXL: the pipelines whose parts make a model that can be dragged.
PIPELINES = {
    "StableDiffusionPipeline": "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLPipeline",
}
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
WEIGHTY = ("unet", "vae", "text_encoder", "text_encoder_2")
# diffusion_pytorch_model.safetensors, model.fp16.safetensors, model-00001-of-00002.safetensors
WEIGHTS_NAME = re.compile(r"(?:diffusion_pytorch_model|model)(?:\.(\w+))?(?:-\d+-of-\d+)?\.safetensors")
PICKLED = ("*.bin", "*.ckpt", "*.pt", "*.pth")
SAMPLE_SIZES = 8, 1024  # latent cells


def check_folder(folder: Path, name: str) -> str:
    """Return the pipeline class to load a diffusers folder with, or refuse it by name; reads JSON only."""
    if not (folder / "model_index.json").is_file() and (folder / "config.json").is_file():
        alone = quoted(_json(folder, "config.json", name).get("_class_name"))
        raise DragNoiseError(f"{name} holds a {alone} alone, not a model that makes pictures; give a base model.")
    index = _json(folder, "model_index.json", name)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or pipeline not in PIPELINES:
        raise DragNoiseError(
            f"{name} is a {quoted(pipeline)}, which cannot be dragged; give a StableDiffusionPipeline or a "
            "StableDiffusionXLPipeline: SD 1.x, SD 2.x or SDXL."
        )
    check_not_refiner(name, bool(index.get("requires_aesthetics_score")))
    required = _required(PIPELINES[pipeline])
    for part in PARTS:
        _check_entry(index.get(part), part, part in required, name)
    _check_scheduler(_json(folder, "scheduler/scheduler_config.json", name), name)
    _check_unet(_json(folder, "unet/config.json", name), name)
    for part in WEIGHTY:
        if part in required:
            _check_not_quantised(_json(folder, f"{part}/config.json", name), f"{name}'s {part}")
    _check_autoencoder(_json(folder, "vae/config.json", name), f"{name}'s vae")
    return PIPELINES[pipeline]


def check_weights(folder: Path, kind: str, name: str) -> None:
    """Raise DragNoiseError, naming the part, unless weights that may be read are there for all of `kind`'s parts."""
    for part in WEIGHTY:
        if part not in _required(kind) or variants_of(folder / part):
            continue
        pickled = sorted(path.name for pattern in PICKLED for path in (folder / part).glob(pattern))
        if pickled:
            raise DragNoiseError(
                f"{name} has its {part} as {quoted(pickled[0])} only, which may hold pickled code and is never read; "
                "convert it to .safetensors, or give a model that comes so."
            )
        raise DragNoiseError(f"{name} has no .safetensors weights of its {part}; give a model that has them.")


def variants_of(folder: Path) -> set[str | None]:
    """Return in which variants a part's safetensors lie in `folder`: None for the plain weights, "fp16" and so on."""
    names = (WEIGHTS_NAME.fullmatch(path.name) for path in folder.glob("*.safetensors"))
    return {match[1] for match in names if match}


def _required(kind: str) -> list[str]:
    return [part for part in PARTS if kind.endswith("XLPipeline") or not part.endswith("_2")]


def _check_entry(entry: Any, part: str, required: bool, name: str) -> None:
    entry = entry or (None, None)
    library, part_class = entry if isinstance(entry, list | tuple) and len(entry) == 2 else (entry, None)
    if library not in ("diffusers", "transformers", None):
        raise DragNoiseError(f"{name} brings own code for its {part}, which is never run; give a plain model.")
    if required and part_class is None:
        raise DragNoiseError(f"{name} has no {part}, so it cannot edit alone; give a complete base model.")
    if part == "unet" and part_class != "UNet2DConditionModel":
        raise DragNoiseError(f"{name} has a {quoted(part_class)}, not an image U-Net; give SD 1.x, SD 2.x or SDXL.")
    if part == "vae" and part_class != "AutoencoderKL":
        raise DragNoiseError(f"{name} has the autoencoder {quoted(part_class)}; AutoencoderKL is needed.")


def _check_not_quantised(config: dict, part: str) -> None:
    if config.get("quantization_config") is not None:
        raise DragNoiseError(
            f"{part} is quantised, and a drag needs plain weights; give the model that it was made from."
        )


def _check_autoencoder(config: dict, part: str) -> None:
    channels = config.get("latent_channels", LATENT_CHANNELS)
    if channels != LATENT_CHANNELS:
        raise DragNoiseError(f"{part} has {quoted(channels)} latent channels; {LATENT_CHANNELS} are needed.")
    scale, shift = config.get("scaling_factor", 1.0), config.get("shift_factor") or 0.0
    if not (_is_number(scale) and _is_number(shift) and scale > 0):
        raise DragNoiseError(
            f"{part} has the scaling factor {quoted(scale)} and the shift {quoted(shift)}; download it again."
        )


def _check_scheduler(config: dict, name: str) -> None:
    scheduler, steps = str(config.get("_class_name")), config.get("num_train_timesteps", TRAIN_STEPS)
    if scheduler.startswith(("LCM", "TCD", "EDM", "FlowMatch")) or steps != TRAIN_STEPS:
        raise DragNoiseError(
            f"{name} uses {scheduler} with {quoted(steps)} training steps, a distilled or flow model without the noise "
            "levels that inversion needs; give the base model that it was made from."
        )
    if config.get("timestep_type") == "continuous" or any(config.get(key) for key in ("sigma_min", "sigma_max")):
        raise DragNoiseError(
            f"{name} samples with a continuous schedule (EDM); give a model of {TRAIN_STEPS} timesteps: "
            "SD 1.x, SD 2.x or SDXL."
        )
    prediction = config.get("prediction_type", "epsilon")
    if not isinstance(prediction, str) or prediction not in PREDICTION_TYPES:
        raise DragNoiseError(f"{name} predicts {quoted(prediction)}; give a model of {' or '.join(PREDICTION_TYPES)}.")


def _check_unet(config: dict, name: str) -> None:
    middle = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    check_unet_kind(name, in_channels=config.get("in_channels", LATENT_CHANNELS), has_middle=middle is not None)
    if config.get("time_cond_proj_dim") is not None:
        raise DragNoiseError(f"{name} is distilled (LCM): its U-Net takes a guidance scale; give its base model.")
    added, label = config.get("addition_embed_type"), config.get("class_embed_type")
    check_conditions(name, only_prompts=added in (None, "text_time") and label is None)
    size, (low, high) = config.get("sample_size"), SAMPLE_SIZES
    sides = size if isinstance(size, list | tuple) else [size, size]
    if size is not None and not (len(sides) == 2 and all(_is_number(side) and low <= side <= high for side in sides)):
        raise DragNoiseError(
            f"{name} says that its U-Net was trained on latents of {quoted(size)} cells a side; from {low} to {high} "
            'are possible, so mend "sample_size" in unet/config.json.'
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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

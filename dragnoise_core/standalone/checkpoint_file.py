"""What a single-file checkpoint says of itself, from its header: kind, prediction, noise levels."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from safetensors import SafetensorError, safe_open

from ..draggable import check_not_refiner, check_unet_kind
from ..errors import DragNoiseError, quoted

PIPELINES = {"v1": "StableDiffusionPipeline", "v2": "StableDiffusionPipeline", "xl_base": "StableDiffusionXLPipeline"}
# Tensors without other use by which files declare what they predict, as ComfyUI reads and writes them.
V_KEY, ZERO_TERMINAL_KEY, EDM_PREFIXES = "v_pred", "ztsnr", ("edm_vpred.", "edm_mean", "edm_std")
# The entry of the model metadata standard of stability.ai, and its words.
METADATA_KEY, METADATA_WORDS = "modelspec.prediction_type", {"epsilon": "epsilon", "v": "v_prediction"}
UNET = "model.diffusion_model."
TEXT_ENCODERS = ("cond_stage_model.", "conditioner.embedders.")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be dragged.

    pipeline: the name of diffusers' class for it. hub_config: where the hub has the configuration of its kind.
    declared: settings of the scheduler by which it says what it predicts and with which noise levels; maybe none.
    """

    pipeline: str
    hub_config: str
    declared: dict[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """Return what the file declares; reads its header only. Raises DragNoiseError when it cannot be dragged."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS, infer_diffusers_model_type

    try:
        with safe_open(path, framework="pt") as file:
            header = {key: SimpleNamespace(shape=tuple(file.get_slice(key).get_shape())) for key in file.keys()}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DragNoiseError(f"{path} is no safetensors file ({error}); download or convert it again.") from error
    try:
        kind = infer_diffusers_model_type(header)
    except (IndexError, KeyError, TypeError) as error:
        raise DragNoiseError(f"{path} has tensors of shapes that no checkpoint has; download it again.") from error
    entry = header.get(UNET + "input_blocks.0.0.weight")
    if entry is not None and len(entry.shape) == 4:
        check_unet_kind(
            str(path), in_channels=entry.shape[1],
            has_middle=any(key.startswith(UNET + "middle_block.") for key in header),
        )  # fmt: skip
    check_not_refiner(str(path), kind == "xl_refiner")
    if kind not in PIPELINES:
        raise DragNoiseError(f"{path} is a {kind} checkpoint; give a base model of SD 1.x, SD 2.x or SDXL.")
    # The library takes whatever it does not know for SD 1.x.
    if entry is None or not any(key.startswith("first_stage_model.") for key in header):
        raise DragNoiseError(f"{path} lacks a Stable Diffusion U-Net or autoencoder (a LoRA?); give a full checkpoint.")
    if not any(key.startswith(TEXT_ENCODERS) for key in header):
        raise DragNoiseError(f"{path} has no text encoder; give a full checkpoint.")
    hub_config = DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    return Checkpoint(PIPELINES[kind], hub_config, _declared(path, header, metadata))


def _declared(path: Path, header: dict[str, Any], metadata: dict[str, str]) -> dict[str, Any]:
    for key in header:
        if key.startswith(EDM_PREFIXES):
            raise DragNoiseError(
                f"{path} was trained on a continuous schedule (it holds {quoted(key)}); give a model of 1000 "
                "timesteps: SD 1.x, SD 2.x or SDXL."
            )
    declared = {}
    word = metadata.get(METADATA_KEY)
    if word is not None and word not in METADATA_WORDS:
        raise DragNoiseError(f"{path} predicts {quoted(word)}; give a model of {' or '.join(METADATA_WORDS)}.")
    if word is not None:
        declared["prediction_type"] = METADATA_WORDS[word]
    if V_KEY in header:
        declared["prediction_type"] = "v_prediction"
    if ZERO_TERMINAL_KEY in header:
        declared["rescale_betas_zero_snr"] = True
    return declared

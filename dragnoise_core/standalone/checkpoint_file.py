"""Which kind of model a single-file checkpoint is, from its header."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..declared import declared, read_header
from ..draggable import check_conditions, check_not_refiner, check_unet_kind
from ..errors import DragNoiseError

PIPELINES = {"v1": "StableDiffusionPipeline", "v2": "StableDiffusionPipeline", "xl_base": "StableDiffusionXLPipeline"}
UNET = "model.diffusion_model."
TEXT_ENCODERS = ("cond_stage_model.", "conditioner.embedders.")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be dragged.

    pipeline: the name of diffusers' class for it. hub_config: where the hub has the configuration of its kind.
    declared: the scheduler's settings that the file states, of what it predicts and of its noise levels; may be empty.
    """

    pipeline: str
    hub_config: str
    declared: dict[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """Return what the file declares; reads its header only. Raises DragNoiseError when it cannot be dragged."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS, infer_diffusers_model_type

    shapes, metadata = read_header(path)
    header = {key: SimpleNamespace(shape=shape) for key, shape in shapes.items()}
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
    # Models with an unCLIP's or a depth estimator's inputs look like SD 1.x or 2.x otherwise.
    check_conditions(str(path), only_prompts=kind not in ("v1", "v2") or UNET + "label_emb.0.0.weight" not in header)
    if kind not in PIPELINES:
        raise DragNoiseError(f"{path} is a {kind} checkpoint; give a base model of SD 1.x, SD 2.x or SDXL.")
    # The library takes whatever it does not know for SD 1.x.
    if entry is None or not any(key.startswith("first_stage_model.") for key in header):
        raise DragNoiseError(f"{path} lacks a Stable Diffusion U-Net or autoencoder (a LoRA?); give a full checkpoint.")
    if not any(key.startswith(TEXT_ENCODERS) for key in header):
        raise DragNoiseError(f"{path} has no text encoder; give a full checkpoint.")
    hub_config = DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    return Checkpoint(PIPELINES[kind], hub_config, declared(str(path), header, metadata))

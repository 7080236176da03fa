"""A checkpoint and a LoRA of random weights that the host takes for Stable Diffusion 1.5's.

The host knows SD 1.5 by 320 channels and prompts of width 768; two levels of one block are enough. The text encoder
has no smaller size.
"""

from pathlib import Path

import comfy.sd1_clip
import comfy.supported_models
import comfy.taesd.taesd
import torch
from safetensors.torch import save_file
from testing_pack.tiny_models import SHAPE, randomise

SD15 = {
    **SHAPE, "model_channels": 320, "context_dim": 768, "num_res_blocks": [1, 1], "channel_mult": [1, 1],
    "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
}  # fmt: skip


def write_checkpoint(path: Path) -> None:
    config = comfy.supported_models.SD15(SD15)
    config.set_inference_dtype(torch.float32, None)
    parts = {
        "model.diffusion_model.": config.get_model({}, "").diffusion_model,
        "cond_stage_model.": comfy.sd1_clip.SD1ClipModel(dtype=torch.float32).clip_l,
        "first_stage_model.": comfy.taesd.taesd.TAESD(),
    }
    weights = {}
    for prefix, module in parts.items():
        randomise(module, 0)
        weights.update({prefix + name: value.half() for name, value in module.state_dict().items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)


def write_lora(path: Path) -> None:
    """One pair of matrices, on the middle block's attention to the prompt."""
    name = "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_q"
    generator = torch.Generator().manual_seed(0)
    weights = {
        f"{name}.lora_up.weight": torch.randn(320, 4, generator=generator) * 0.1,
        f"{name}.lora_down.weight": torch.randn(4, 320, generator=generator) * 0.1,
        f"{name}.alpha": torch.tensor(4.0),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)

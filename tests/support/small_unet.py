"""A small random diffusers U-Net in Stable Diffusion's shape."""

import torch
from diffusers import UNet2DConditionModel


def small_unet(seed: int = 0, **overrides) -> UNet2DConditionModel:
    """Three levels, 32 to 64 channels, frozen, float32."""
    torch.manual_seed(seed)
    configuration = {
        "sample_size": 32,
        "block_out_channels": (32, 64, 64),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        **overrides,
    }
    return UNet2DConditionModel(**configuration).eval().requires_grad_(False)

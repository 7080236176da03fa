"""The networks of the demo model: a U-Net in Stable Diffusion's shape, a tiny autoencoder, a keypoint regressor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .scenes import KINDS, find_kind

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, UNet2DConditionModel

PROMPTS = (*KINDS, "")  # rows of the prompt table; the last is the empty prompt
PROMPT_TOKENS = 4
PROMPT_WIDTH = 128
LATENT_SIZE = 32  # of a 256-pixel picture

# Three levels, 32x32 to 8x8. Attention only at 8x8, so that a whole edit takes seconds on two CPU cores.
# `attention_head_dim` is, by a historical slip in diffusers, the number of heads: here every head is 32 wide.
UNET_CONFIG = {
    "sample_size": LATENT_SIZE,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (64, 96, 128),
    "layers_per_block": 2,
    "cross_attention_dim": PROMPT_WIDTH,
    "attention_head_dim": (2, 3, 4),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
}


def build_unet() -> UNet2DConditionModel:
    """Return the untrained U-Net: latents [B, 4, 32, 32], timesteps in [0, 999], prompt [B, tokens, 128] -> epsilon."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**UNET_CONFIG)


def build_autoencoder() -> AutoencoderTiny:
    """Return the untrained autoencoder, in the shape of TAESD: pictures in [-1, 1] <-> raw latents [B, 4, H/8, W/8]."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny()


class Stage(nn.Module):
    """A convolution, and a residual one at the same resolution."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.enter = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)
        self.first_norm = nn.GroupNorm(8, channels_out)
        self.refine = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.second_norm = nn.GroupNorm(8, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.first_norm(self.enter(x)))
        return F.silu(x + self.second_norm(self.refine(x)))


class KeypointRegressor(nn.Module):
    """Picture -> places of the keypoints of every scene kind, each the centre of mass of its own heat map.

    An hourglass: down to 1/32 of the side to see the whole scene, back up to 1/4 to place points within a pixel.
    """

    WIDTHS = (24, 40, 56, 72, 80)

    def __init__(self):
        super().__init__()
        widths = self.WIDTHS
        self.slices, total = {}, 0
        for name, kind in KINDS.items():
            self.slices[name] = slice(total, total + len(kind.keypoint_names))
            total += len(kind.keypoint_names)
        self.down = nn.ModuleList(Stage(a, b, 2) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(Stage(widths[i + 1] + widths[i], widths[i]) for i in (3, 2, 1))
        self.head = nn.Conv2d(widths[1], total, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, 3, H, W] in [0, 1] -> places [B, K, 2] and their spread [B, K], in fractions of the side."""
        x, skips = pictures * 2 - 1, []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        for stage, skip in zip(self.up, skips[-2:0:-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, size=skip.shape[-2:], mode="nearest"), skip], 1))
        heat = self.head(x).float()
        height, width = heat.shape[-2:]
        weight = heat.flatten(2).softmax(-1).view_as(heat)
        columns = (torch.arange(width, device=x.device) + 0.5) / width
        rows = (torch.arange(height, device=x.device) + 0.5) / height
        across, along = weight.sum(2), weight.sum(3)
        mean_x, mean_y = across @ columns, along @ rows
        variance = across @ columns**2 - mean_x**2 + along @ rows**2 - mean_y**2
        return torch.stack([mean_x, mean_y], -1), variance.clamp(min=1e-8).sqrt()

    def locate(self, pictures: Tensor, kind: str) -> dict[str, Tensor]:
        """Return the keypoints by name, [B, 2] in pixels, of pictures [B, 3, H, W] in [0, 1] of one scene kind."""
        names = find_kind(kind).keypoint_names
        places = self(pictures)[0][:, self.slices[kind]]
        size = places.new_tensor([pictures.shape[-1], pictures.shape[-2]])
        return {name: places[:, i] * size for i, name in enumerate(names)}

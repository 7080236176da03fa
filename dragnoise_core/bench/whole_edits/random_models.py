"""Random weights in the true sizes of SD 1.5 and SDXL: time and memory do not depend on what the weights say."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from ...schedule import scaled_linear_sigmas
from ...standalone.loaded_model import LoadedModel, freeze, freeze_autoencoder
from ...standalone.quick_layers import quicken

TOKENS = 77
AUTOENCODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}


@dataclass(frozen=True)
class Shape:
    """unet, autoencoder: their configurations in diffusers. text_parameters: of the text encoders, which are not built.

    scaling: of the latents. steps: of the whole schedule. iterations: of an edit; None: the preset's own.
    """

    unet: dict[str, Any]
    autoencoder: dict[str, Any]
    text_parameters: int
    scaling: float
    steps: int = 50
    iterations: int | None = None

    @property
    def side(self) -> int:
        """Side of the pictures that such a model is trained on, pixels."""
        return 8 * self.unet["sample_size"]

    @property
    def is_xl(self) -> bool:
        """Whether the U-Net is also told the picture's size."""
        return "addition_embed_type" in self.unet


SHAPES = {
    "sd15": Shape(
        {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}, AUTOENCODER, 123_060_480, 0.18215
    ),
    "sdxl": Shape(
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        AUTOENCODER,
        123_060_480 + 694_659_840,
        0.13025,
    ),
}


def find_shape(name: str, narrow: bool) -> Shape:
    """Return the shape of that name; narrow: a tiny one of that kind and a short edit, only to try a script."""
    shape = SHAPES[name]
    if not narrow:
        return shape
    levels = len(shape.unet.get("block_out_channels", range(4)))
    small = {
        "sample_size": 16,
        "block_out_channels": (32,) * levels,
        "attention_head_dim": 8,
        "cross_attention_dim": 16,
    }
    if shape.is_xl:
        small |= {"transformer_layers_per_block": (1, 1, 2)}
    autoencoder = {**AUTOENCODER, "block_out_channels": (32,) * 4, "layers_per_block": 1}
    return Shape({**shape.unet, **small}, autoencoder, 1000, shape.scaling, steps=5, iterations=3)


def random_unet(shape: Shape, device: torch.device) -> UNet2DConditionModel:
    """Return a U-Net of random weights, float32, in evaluation mode, its weights ready for gradients."""
    torch.manual_seed(0)
    with device:
        return UNet2DConditionModel(**shape.unet).eval()


def random_autoencoder(shape: Shape, device: torch.device) -> AutoencoderKL:
    """Return an autoencoder of random weights, float32, in evaluation mode."""
    torch.manual_seed(1)
    with device:
        return AutoencoderKL(**shape.autoencoder, scaling_factor=shape.scaling).eval()


def random_prompt(shape: Shape, device: torch.device) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Return a prompt embedding, [1, 77, D], and SDXL's added conditions or None."""
    generator = torch.Generator().manual_seed(2)
    embedding = torch.randn(1, TOKENS, shape.unet["cross_attention_dim"], generator=generator).to(device)
    if not shape.is_xl:
        return embedding, None
    sizes = 6 * shape.unet["addition_time_embed_dim"]
    pooled = torch.randn(1, shape.unet["projection_class_embeddings_input_dim"] - sizes, generator=generator)
    side = shape.side
    return embedding, {
        "text_embeds": pooled.to(device),
        "time_ids": torch.tensor([[side, side, 0, 0, side, side]], device=device),
    }


def random_model(shape: Shape, device: torch.device, acceleration: str) -> LoadedModel:
    """Return what `load_model` would: float16 on a GPU, SDXL's autoencoder in float32, which overflows in float16."""
    half = torch.float16 if device.type == "cuda" else torch.float32
    unet = quicken(freeze(random_unet(shape, device), device, half))
    autoencoder = freeze_autoencoder(random_autoencoder(shape, device), device, torch.float32 if shape.is_xl else half)
    prompt = random_prompt(shape, device)

    @torch.no_grad()
    def encode(picture: Tensor) -> Tensor:
        pixels = (picture * 2 - 1).to(device, autoencoder.dtype)
        return autoencoder.encode(pixels).latent_dist.mean.float() * shape.scaling

    @torch.no_grad()
    def decode(latent: Tensor) -> Tensor:
        return autoencoder.decode((latent / shape.scaling).to(device, autoencoder.dtype)).sample.float() / 2 + 0.5

    return LoadedModel(
        name=f"random weights, {shape.side} x {shape.side}",
        unet=unet,
        sigmas=scaled_linear_sigmas(),
        prediction_type="epsilon",
        native_side=shape.side,
        encode=encode,
        decode=decode,
        conditions=lambda prompt_text, width, height: prompt,
        acceleration=acceleration,
    )

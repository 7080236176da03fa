"""Loading the demo model from the weights that ship with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import DragNoiseError
from .networks import PROMPTS, KeypointRegressor, build_autoencoder, build_unet

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, UNet2DConditionModel

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class DemoModel:
    """The trained networks, frozen. A model latent is (raw latent - shift) * scale, with a deviation of about one."""

    unet: UNet2DConditionModel
    autoencoder: AutoencoderTiny
    scale: float
    shift: float
    prompts: Tensor

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Return the model latents, [B, 4, H/8, W/8], of pictures, [B, 3, H, W] in [0, 1], H and W multiples of 8."""
        return (self.autoencoder.encode(pictures * 2 - 1).latents - self.shift) * self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the pictures, [B, 3, 8h, 8w] in [0, 1], of model latents, [B, 4, h, w]."""
        decoded = self.autoencoder.decode(latents / self.scale + self.shift).sample
        return (decoded * 0.5 + 0.5).clamp(0, 1)

    def prompt(self, kind: str = "") -> Tensor:
        """Return the prompt embedding, [1, tokens, 128], of a scene kind, or of none for an empty string."""
        if kind not in PROMPTS:
            names = ", ".join(name for name in PROMPTS if name)
            raise DragNoiseError(f"the demo model has no prompt {kind!r}; use one of {names}, or an empty one.")
        row = PROMPTS.index(kind)
        return self.prompts[row : row + 1]


def load_demo_model(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> DemoModel:
    """Return the demo model in `dtype` on `device`. Raises DragNoiseError when its files are missing or damaged."""
    unet_weights = read_weights("unet", device, dtype)
    autoencoder_weights = read_weights("autoencoder", device, dtype)
    prompts = unet_weights.pop("prompt_embeddings", None)
    scale, shift = autoencoder_weights.pop("scale", None), autoencoder_weights.pop("shift", None)
    if prompts is None or scale is None or shift is None:
        raise DragNoiseError(f"the demo weights in {WEIGHTS} lack prompts, scale or shift; install the package again.")
    unet = fill(build_unet(), unet_weights, "unet")
    autoencoder = fill(build_autoencoder(), autoencoder_weights, "autoencoder")
    return DemoModel(unet, autoencoder, scale.item(), shift.item(), prompts)


def load_keypoint_regressor(device: str | torch.device = "cpu") -> KeypointRegressor:
    """Return the keypoint regressor; see its `locate`. Raises DragNoiseError when its file is missing or damaged."""
    return fill(KeypointRegressor(), read_weights("keypoints", device), "keypoints")


def read_weights(name: str, device: str | torch.device, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return the tensors of one file of the weights folder; its scalars stay in single precision."""
    file = WEIGHTS / f"{name}.safetensors"
    if not file.is_file():
        raise DragNoiseError(f"the demo weights {file} are missing; install the package again or train them again.")
    try:
        stored = load_file(file)
    except SafetensorError as error:
        raise DragNoiseError(f"the demo weights {file} are damaged ({error}); install the package again.") from error
    return {key: value.to(device, dtype) if value.ndim else value for key, value in stored.items()}


def fill(network: nn.Module, weights: dict[str, Tensor], name: str) -> nn.Module:
    """Give the network these tensors as its weights, with their device and dtype, and freeze it."""
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise DragNoiseError(
            f"the demo weights {name}.safetensors do not fit the network ({error}); install the package again."
        ) from error
    return network.eval().requires_grad_(False)

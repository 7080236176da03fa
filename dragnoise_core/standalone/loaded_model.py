"""A model in memory, ready to edit with, and its networks frozen."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..acceleration import GraphedUNet, Graphs, choose_graphs
from ..split_unet import SplitUNet
from .diffusers_unet import DiffusersSplitUNet


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to edit with, frozen, on one device.

    name: as it was asked for. sigmas: the training schedule's noise levels, ascending, [T]. native_side: it was
    trained on pictures of about native_side^2 pixels. encode: picture [1, 3, H, W] in [0, 1] -> latent in model
    units, [1, 4, H / 8, W / 8], float32; with a generator and a number of draws, that many samples of the
    autoencoder's posterior instead of its mean, [draws, 4, H / 8, W / 8]. decode: the way back. conditions:
    (prompt, width, height) -> prompt embedding, [1, tokens, D], and the added conditions (SDXL) or None.
    acceleration: "auto", "eager" or "cudagraph", see `choose_graphs`. low_memory: see DiffusersSplitUNet.
    """

    name: str
    unet: UNet2DConditionModel
    sigmas: Tensor
    prediction_type: str
    native_side: int
    encode: Callable[..., Tensor]
    decode: Callable[[Tensor], Tensor]
    conditions: Callable[[str, int, int], tuple[Tensor, dict[str, Tensor] | None]]
    acceleration: str = "auto"
    low_memory: bool = False

    @cached_property
    def graphs(self) -> Graphs | None:
        """The CUDA graphs of this model, kept from one picture to the next; None where it runs as Python."""
        return choose_graphs(self.acceleration, self.unet)

    def accelerated(self, unet: DiffusersSplitUNet) -> SplitUNet:
        """Return the faster form of what `split_unet` gave, where there is one."""
        return GraphedUNet(unet, self.graphs) if self.graphs else unet

    def split_unet(self, prompt: str, width: int, height: int) -> DiffusersSplitUNet:
        """Return the U-Net under `prompt`, for pictures of width x height. Raises DragNoiseError for a bad prompt."""
        embedding, added = self.conditions(prompt, width, height)
        return DiffusersSplitUNet(
            self.unet,
            embedding,
            sigmas=self.sigmas,
            prediction_type=self.prediction_type,
            added_conditions=added,
            low_memory=self.low_memory,
        )


def freeze(module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """Move a module, set it to evaluation and freeze its weights, channels last, which makes convolutions faster."""
    module = module.to(device).eval().requires_grad_(False)
    if module.dtype != dtype:
        module = module.to(dtype)
    return module.to(memory_format=torch.channels_last)


def freeze_autoencoder(module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """Freeze an autoencoder that never needs a gradient; its peak memory falls by half of its largest feature map.

    Activations overwrite the norms' results, which nothing else reads, and are turned to channels last at once, so that
    the convolutions after them make no copy.
    """
    for activation in module.modules():
        if isinstance(activation, torch.nn.SiLU):
            activation.inplace = True
            activation.register_forward_hook(_to_channels_last)
    return freeze(module, device, dtype)


def _to_channels_last(module: torch.nn.Module, arguments: tuple, result: Tensor) -> Tensor:
    return result.contiguous(memory_format=torch.channels_last)

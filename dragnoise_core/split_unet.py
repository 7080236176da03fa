"""The one seam between the method and a model: a U-Net cut at its bottleneck."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the encoder and the middle block produce at one noise level.

    bottleneck: middle block output, [B, C, h, w], float32 or wider, whatever the model computes in.
    state: whatever the adapter's decoder needs (skips, embeddings, conditioning); opaque to the core.
    """

    bottleneck: Tensor
    state: Any


@dataclass(frozen=True, eq=False)
class Decoded:
    """What the decoder produces: the tap's feature map, [B, C, H, W], and epsilon, [B, 4, H, W], unless left out."""

    feature: Tensor
    epsilon: Tensor | None


class SplitUNet(Protocol):
    """A U-Net cut at its bottleneck, under one conditioning.

    Latents are in sigma space: x = x0 + sigma * epsilon (variance exploding), in model units, [B, 4, H, W].
    The tap is the output of the last decoder block that upsamples. Whatever the model predicts, the adapter
    answers with epsilon.
    """

    def encode(self, x: Tensor, sigma: float, *, middle: bool = True) -> Encoded:
        """Run the encoder and the middle block, without gradient.

        middle: False where another bottleneck will be decoded. Then the middle block need not run, and only the
        shape, dtype and device of the returned bottleneck are meaningful.
        """

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """Run the decoder on `bottleneck`, differentiable in it; with `to_tap`, stop there and leave epsilon out."""


@torch.no_grad()
def evaluate(unet: SplitUNet, x: Tensor, sigma: float, *, to_tap: bool = False) -> Decoded:
    """Return what the model makes of x, [B, 4, H, W], at noise level `sigma`, with its own bottleneck."""
    encoded = unet.encode(x, sigma)
    return unet.decode(encoded, encoded.bottleneck, to_tap=to_tap)

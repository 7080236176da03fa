"""A SplitUNet of a few lines: convolutions around a bottleneck at half size."""

import math

import torch
from torch import nn
from torch.nn import functional

from dragnoise_core.split_unet import Decoded, Encoded


class ToyUNet(nn.Module):
    """Encoder to [B, 8, h/2, w/2], decoder with one skip; smooth, so that finite differences are accurate."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.Conv2d(12, 16, 3, padding=1)
        self.out = nn.Conv2d(16, 4, 3, padding=1)
        self.decodings = {"tap": 0, "full": 0}
        self.middles = 0
        self.to(dtype).requires_grad_(False)

    @torch.no_grad()
    def encode(self, x, sigma, *, middle=True):
        seen = x / math.sqrt(1 + sigma**2)
        hidden = torch.tanh(self.down(seen) + 0.1 * math.log(sigma))
        self.middles += middle
        return Encoded(self.middle(hidden) if middle else hidden, seen)

    def decode(self, encoded, bottleneck, *, to_tap):
        self.decodings["tap" if to_tap else "full"] += 1
        large = functional.interpolate(bottleneck, encoded.state.shape[-2:], mode="bilinear")
        feature = torch.tanh(self.up(torch.cat([large, encoded.state], 1)))
        return Decoded(feature, None if to_tap else self.out(feature))

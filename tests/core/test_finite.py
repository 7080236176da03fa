"""Numbers that are not finite are named by where they came up, and small pictures by their size."""

from dataclasses import replace

import pytest
import torch
from toy_unet import ToyUNet

from dragnoise_core.configuration import preset
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.inversion import invert
from dragnoise_core.optimisation import optimise
from dragnoise_core.points import DragPoints
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas

SIGMAS = ddim_sigmas(scaled_linear_sigmas(), 5, 0.6).float()
POINTS = DragPoints.from_pairs([((30, 60), (90, 60))], 128, 128)


class Overflowing(ToyUNet):
    """One part of it gives what is not finite, from one of its calls on."""

    def __init__(self, part, first=0, value=torch.inf):
        super().__init__()
        self.part, self.value, self.left = part, value, first

    def _spoilt(self, part, tensor):
        if tensor is None or part != self.part:
            return tensor
        self.left -= 1
        return tensor * self.value if self.left < 0 else tensor

    def encode(self, x, sigma, *, middle=True):
        encoded = super().encode(x, sigma, middle=middle)
        return replace(encoded, bottleneck=self._spoilt("bottleneck", encoded.bottleneck))

    def decode(self, encoded, bottleneck, *, to_tap):
        decoded = super().decode(encoded, bottleneck, to_tap=to_tap)
        feature, epsilon = self._spoilt("feature", decoded.feature), self._spoilt("epsilon", decoded.epsilon)
        return replace(decoded, feature=feature, epsilon=epsilon)


def latent(value=None):
    found = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    if value is not None:
        found[0, 1, 2, 3] = value
    return found


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_comes_in(value):
    with pytest.raises(
        DragNoiseError, match="the VAE's encoder gave numbers that are not finite; use another.*float32"
    ):
        invert(ToyUNet(), latent(value), SIGMAS)
    with pytest.raises(DragNoiseError, match="what made the latent gave"):
        optimise(ToyUNet(), latent(value), SIGMAS, POINTS)
    with pytest.raises(DragNoiseError, match="sampling gave"):
        sample(ToyUNet(), latent(value), SIGMAS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("first", [0, 2])
def test_a_unet_that_overflows_in_inversion_or_sampling(value, first):
    with pytest.raises(DragNoiseError, match="the inversion gave"):
        invert(Overflowing("epsilon", first, value), latent(), SIGMAS)
    with pytest.raises(DragNoiseError, match="sampling gave"):
        sample(Overflowing("epsilon", first, value), latent(), SIGMAS)


@pytest.mark.parametrize("part", ["bottleneck", "feature"])
@pytest.mark.parametrize("name", ["paper", "default"])
def test_a_unet_that_overflows_in_the_drag(part, name):
    with pytest.raises(DragNoiseError, match="the optimisation diverged|the U-Net, in the drag, gave"):
        optimise(Overflowing(part), latent(), SIGMAS, POINTS, config=preset(name, iterations=2))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (3, 3), (7, 2), (16, 1), (1, 90)])
def test_a_latent_without_room_is_said_to_be_too_small(width, height):
    with pytest.raises(DragNoiseError, match=f"too small to drag: its latent is {width} x {height}"):
        optimise(ToyUNet(), torch.randn(1, 4, height, width), SIGMAS, POINTS)

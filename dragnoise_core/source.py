"""The unedited picture beside the edited one: its latent, feature and epsilon at one noise level after another."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from .errors import DragNoiseError
from .inversion import InversionPath, evaluate_ahead
from .split_unet import Encoded, SplitUNet


@dataclass(frozen=True, eq=False)
class Source:
    """The unedited picture at one noise level.

    latent: sigma space, [1, 4, H, W]. feature: at the tap, [1, C, h, w]; None where nothing asks for it. epsilon: of
    the step to the next level, [1, 4, H, W]. encoded: of the latent, where it has just been computed.
    """

    latent: Tensor
    feature: Tensor | None
    epsilon: Tensor
    encoded: Encoded | None = None


@dataclass(frozen=True, eq=False)
class Level:
    """One noise level: the edited latent, [1, 4, H, W], its encoding, and the unedited picture there."""

    edited: Tensor
    encoded: Encoded
    source: Source
    sigma: float
    sigma_next: float


def sampled_source(unet: SplitUNet, x: Tensor, levels: list[float]) -> Iterator[Source]:
    """Sample the unedited picture from x, sigma space at levels[0], [1, 4, H, W], level by level."""
    for sigma, sigma_next in pairwise(levels):
        encoded = unet.encode(x, sigma)
        decoded = unet.decode(encoded, encoded.bottleneck, to_tap=False)
        yield Source(x, decoded.feature, decoded.epsilon, encoded)
        x = x + decoded.epsilon * (sigma_next - sigma)


def sampled_path(unet: SplitUNet, x: Tensor, levels: list[float], features: int) -> InversionPath:
    """Return the way on which x, sigma space at levels[0], [1, 4, H, W], is sampled: as that of an inversion.

    features: of so many of its noisiest steps.
    """
    latents, kept = [], []
    for source in sampled_source(unet, x, levels):
        latents.append(source.latent)
        if len(kept) < features:
            kept.append(source.feature)
    last, sigma, sigma_next = source, levels[-2], levels[-1]
    return InversionPath([*latents, last.latent + last.epsilon * (sigma_next - sigma)], kept)


def inverted_source(unet: SplitUNet, path: InversionPath, levels: list[float], features: int) -> Iterator[Source]:
    """Walk an inversion back, level by level: it ends at the picture itself, and epsilon costs no evaluation.

    features: of so many levels the feature is given too, computed where the path lacks it.
    Raises DragNoiseError when the path is of another schedule.
    """
    if len(path.latents) != len(levels):
        raise DragNoiseError(f"the inversion's path has {len(path.latents)} latents for {len(levels)} noise levels.")
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        latent, latent_next = path.latents[step], path.latents[step + 1]
        feature = None
        if step < min(features, len(path.features)):
            feature = path.features[step]
        elif step < features:
            feature = evaluate_ahead(unet, latent_next, sigma_next, sigma, to_tap=True).feature
        yield Source(latent, feature, (latent_next - latent) / (sigma_next - sigma))

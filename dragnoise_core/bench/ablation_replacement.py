"""The middle-block replacement study (DragNoise, section 3.2): what a picture owes to its bottleneck, and when.

The bottleneck of a donor's trajectory at one step goes into all later steps of a recipient's trajectory.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..demo.scenes import KINDS, SIZE, keypoints, render, sample_parameters
from ..inversion import invert
from ..metrics import mean_distance, psnr
from ..sampling import sample
from ..split_unet import Decoded, Encoded, SplitUNet
from .ablation_studies import Row, Subject

# Of the whole schedule: t = 45, 35, 25, 15, 5 of 50, as in the paper.
REPLACED = (0.9, 0.7, 0.5, 0.3, 0.1)
DONORS = ("itself", "edited", "other")


class Watched:
    """A SplitUNet that remembers the latent that it saw and the bottleneck that it gave at every step."""

    def __init__(self, unet: SplitUNet) -> None:
        self.unet = unet
        self.latents: list[Tensor] = []
        self.bottlenecks: list[Tensor] = []

    def encode(self, x: Tensor, sigma: float, *, middle: bool = True) -> Encoded:
        """See SplitUNet."""
        encoded = self.unet.encode(x, sigma, middle=middle)
        self.latents.append(x)
        self.bottlenecks.append(encoded.bottleneck)
        return encoded

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """See SplitUNet."""
        return self.unet.decode(encoded, bottleneck, to_tap=to_tap)


class Repeating:
    """A SplitUNet whose bottleneck is always the given one, [B, C, h, w]."""

    def __init__(self, unet: SplitUNet, bottleneck: Tensor) -> None:
        self.unet, self.bottleneck = unet, bottleneck

    def encode(self, x: Tensor, sigma: float, *, middle: bool = True) -> Encoded:
        """See SplitUNet."""
        return replace(self.unet.encode(x, sigma, middle=middle), bottleneck=self.bottleneck)

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """See SplitUNet."""
        return self.unet.decode(encoded, bottleneck, to_tap=to_tap)


def replacements(unet: SplitUNet, noisy: Tensor, sigmas: Tensor, left: list[int]) -> Iterator[Tensor]:
    """Yield the pictures' own latents, [B, 4, h, w], then, for each of `left`, those of the first picture sampled with
    each picture's bottleneck.

    noisy: [B, 4, h, w], sigma space at sigmas[0], the recipient first. sigmas: descending, [k + 1]. left: how many of
    the last steps get a bottleneck; it is the donor's at the first of these steps.
    """
    watched = Watched(unet)
    yield sample(watched, noisy, sigmas)
    for steps in left:
        first = len(sigmas) - 1 - steps
        recipient = watched.latents[first][:1].expand_as(noisy)
        yield sample(Repeating(unet, watched.bottlenecks[first]), recipient, sigmas[first:])


def replacement_study(subject: Subject) -> Iterator[Row]:
    """Give a picture its own bottleneck, that of its edited truth, and that of another scene of its kind.

    distance: of the keypoints from the donor's places; the recipient's are `way` from there, in pixels. All
    keypoints that lie in both pictures are measured; with the edited truth as donor, those that were dragged.
    donor_psnr, recipient_psnr: to the pictures as they are sampled without a replacement; None when they are equal.
    """
    drag = subject.drag
    generator = torch.Generator().manual_seed(subject.number)
    scenes = (drag.source, drag.target, sample_parameters(drag.kind, 1, generator))
    sigmas = subject.sigmas(REPLACED[0])
    latents = torch.cat([subject.model.encode(render(drag.kind, scene)) for scene in scenes])
    noisy = invert(subject.unet, latents, sigmas)
    left = [round(share * subject.plan.steps) for share in REPLACED]
    plain, *replaced = (
        [subject.model.decode(latent[None]) for latent in batch]
        for batch in replacements(subject.unet, noisy, sigmas, left)
    )
    for row, donor in enumerate(DONORS):
        names, own, given = _places(drag.kind, scenes[0], scenes[row], drag.names if donor == "edited" else None)
        for steps, results in zip(left, replaced, strict=True):
            result = results[row]
            yield subject.row(
                "replacement",
                steps,
                donor=donor,
                way=mean_distance(own, given),
                distance=mean_distance(subject.locate(result, names), given),
                donor_psnr=_finite(psnr(result, plain[row])),
                recipient_psnr=_finite(psnr(result, plain[0])),
            )


Names = tuple[str, ...]


def _places(kind: str, source: dict, donor: dict, names: Names | None) -> tuple[Names, Tensor, Tensor]:
    """Return the keypoints to measure, all if None, and their places in recipient and donor, each [N, 2], pixels."""
    places = [keypoints(kind, scene) for scene in (source, donor)]
    names = tuple(name for name in names or KINDS[kind].keypoint_names if all(_inside(place[name]) for place in places))
    own, given = (torch.cat([place[name] for name in names]) for place in places)
    return names, own, given


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _inside(place: Tensor) -> bool:
    return bool(((place >= 0) & (place <= SIZE)).all())

"""Mean distance by DIFT: where the dragged things are, found by a diffusion model's features.

DIFT: Tang et al., "Emergent Correspondence from Image Diffusion", NeurIPS 2023. The settings are those of
DragDiffusion's evaluation (Shi et al., CVPR 2024): Stable Diffusion 2.1 under the sample's own prompt, timestep 261,
the second decoder block's output, averaged over 8 draws of noise.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ...standalone.loaded_model import LoadedModel

TIMESTEP, BLOCK, ENSEMBLE, SEED = 261, 1, 8, 42
CHANNELS = 64  # upsampled at once: all of them at a picture's size would take gigabytes
DISC_SHARE, SMALLEST_DISC = 0.5**0.5, 5.0


@torch.no_grad()
def features(model: LoadedModel, picture: Tensor, prompt: str, generator: torch.Generator) -> Tensor:
    """Return the DIFT features of a picture, [1, 3, H, W] in [0, 1] at its own size: [1, C, h, w], float32.

    generator: on the CPU, for the autoencoder's posterior and the noise, so that all devices draw alike.
    """
    unet = model.split_unet(prompt, picture.shape[-1], picture.shape[-2])
    unet.tap = BLOCK
    sigma = float(model.sigmas[TIMESTEP])
    latents = model.encode(picture, generator, ENSEMBLE)
    total = 0
    # One at a time: together they would take gigabytes.
    for latent in latents.split(1):
        noisy = latent + sigma * torch.randn(latent.shape, generator=generator).to(latent)
        encoded = unet.encode(noisy, sigma)
        total = total + unet.decode(encoded, encoded.bottleneck, to_tap=True).feature.float()
    return total / ENSEMBLE


def similarity(source: Tensor, dragged: Tensor, pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the cosine similarity of the source's features at `pixels` with all of the dragged ones, [N, H, W].

    source, dragged: features, [1, C, h, w], upsampled bilinearly to size, (H, W). pixels: (x, y), [N, 2].
    """
    x, y = pixels.long().unbind(1)
    products, lengths, norms = 0, 0, 0
    for part, dragged_part in zip(source.split(CHANNELS, 1), dragged.split(CHANNELS, 1), strict=True):
        vectors = functional.interpolate(part, size, mode="bilinear")[0, :, y, x]
        field = functional.interpolate(dragged_part, size, mode="bilinear")[0]
        products = products + torch.einsum("cn,chw->nhw", vectors, field)
        lengths, norms = lengths + vectors.square().sum(0), norms + field.square().sum(0)
    return products / (lengths.sqrt()[:, None, None] * norms.sqrt()).clamp_min(1e-8)


def distances(similarities: Tensor, targets: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Return how far the most similar pixel is from each target, [N], pixels.

    similarities: [N, H, W]. targets: (x, y), [N, 2]. allowed: where to search, bool, [H, W] or [N, H, W]; None for
    everywhere. Of equal pixels the first counts, row by row.
    """
    if allowed is not None:
        similarities = similarities.masked_fill(~allowed, -torch.inf)
    best = similarities.flatten(1).argmax(1)
    width = similarities.shape[-1]
    found = torch.stack((best % width, best // width), 1)
    return (found - targets).double().norm(dim=1)


def discs(handles: Tensor, targets: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where RegionDrag's evaluation searches for each handle, bool, [N, H, W].

    Within |target - handle| / sqrt 2, at least 5 pixels, of the handle or of the target (Lu et al., ECCV 2024; it also
    scales pictures to 768 x 768 and distances to the sides, which is not done here).
    """
    rows, columns = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    places = torch.stack((columns, rows), -1).float()
    radius = ((targets - handles).float().norm(dim=1) * DISC_SHARE).clamp_min(SMALLEST_DISC)[:, None, None]
    near = [(places - ends[:, None, None].float()).norm(dim=-1) < radius for ends in (handles, targets)]
    return near[0] | near[1]

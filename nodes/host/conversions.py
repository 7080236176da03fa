"""Conversions between the host and the core: pictures, masks, latents; here and nowhere else."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...dragnoise_core.edit import DragEdit
from ...dragnoise_core.errors import DragNoiseError
from ...dragnoise_core.finite import check_finite
from ...dragnoise_core.images import load_mask
from ...dragnoise_core.inversion import InversionPath
from ...dragnoise_core.points import DragPoints
from .files import stored_file

# The key in an inversion's LATENT that holds its latents at every level: [k + 1, 1, C, h, w], model units, CPU.
PATH = "dragnoise_path"
CELL = 8  # picture pixels to a cell of the latent


def to_core_image(image: Tensor) -> Tensor:
    """Return the host's IMAGE, [B, H, W, 3 or 4] in [0, 1], as [B, 3, H, W]."""
    return image[..., :3].movedim(-1, 1).float().contiguous()


def to_host_image(image: Tensor) -> Tensor:
    """Return [B, 3, H, W] as the host's IMAGE, [B, H, W, 3] in [0, 1]."""
    return image.movedim(1, -1).float().clamp(0, 1).cpu().contiguous()


def encoded(vae, image: Tensor) -> Tensor:
    """Return the latent of an IMAGE, as the host scales it. Raises DragNoiseError where the VAE fails."""
    return check_finite(vae.encode(image), "the VAE's encoder")


def decoded(vae, latent: Tensor) -> Tensor:
    """Return the IMAGE of a latent. Raises DragNoiseError where the VAE fails."""
    return check_finite(vae.decode(latent), "the VAE's decoder")


def latent_samples(latent: dict[str, Any], model) -> Tensor:
    """Return the samples of a LATENT of one picture, [1, C, h, w], as the host scales them.

    Raises DragNoiseError for several pictures and for latents of another kind of model. An inpainting mask in
    the LATENT is dropped: it would change the sampling.
    """
    samples = latent["samples"]
    channels = model.get_model_object("latent_format").latent_channels
    if samples.ndim != 4 or samples.shape[1] != channels:
        raise DragNoiseError(
            f"the latent has shape {tuple(samples.shape)}, this model's are [1, {channels}, height, width]; "
            "encode the picture with the model's own VAE."
        )
    if len(samples) != 1:
        raise DragNoiseError(
            f"the latent holds {len(samples)} pictures; drag one at a time, Latent From Batch picks one."
        )
    return check_finite(samples, "what made the latent")


def fitting_path(path: InversionPath | None, latent: Tensor, sigmas: Tensor) -> InversionPath | None:
    """Return the path if it is of the inversion that ended in `latent`, on that one's device; else None.

    A LATENT that other nodes have worked on may carry a path that is no longer its own.
    """
    if path is None or path.latents.shape != (len(sigmas), *latent.shape):
        return None
    path = replace(path, latents=path.latents.to(latent))
    scale = float(latent.abs().max())
    return path if torch.allclose(path.latents[0], latent, rtol=0, atol=1e-3 * scale) else None


def signal_to_noise(wanted: Tensor, got: Tensor) -> float:
    """Return how near `got` is to `wanted`, in decibels of the wanted one's variance; at most 120."""
    error = float((got - wanted).square().mean())
    signal = float(wanted.var(unbiased=False))
    return 120.0 if error <= signal * 1e-12 else 10 * math.log10(max(signal, 1e-12) / error)


def padded(picture: Tensor, multiple: int) -> Tensor:
    """Return [1, C, H, W] with its last column and row repeated until both sides are multiples of `multiple`."""
    height, width = picture.shape[-2:]
    rows = torch.arange(-(-height // multiple) * multiple).clamp(max=height - 1)
    columns = torch.arange(-(-width // multiple) * multiple).clamp(max=width - 1)
    return picture[..., rows, :][..., columns]


def one_mask(mask: Tensor | None) -> Tensor | None:
    """Return the host's MASK, [B, H, W] or [H, W], as a plain copy; None stays None."""
    return None if mask is None else mask.detach().to("cpu", torch.float32).clone()


def first_mask(mask: Tensor) -> Tensor:
    """Return the first of the host's MASK, [B, H, W] or [H, W], as [H, W]."""
    return mask.reshape(-1, *mask.shape[-2:])[0]


def fitted_mask(mask: Tensor, height: int, width: int, multiple: int) -> Tensor:
    """Return the host's MASK for a picture of `height` x `width` pixels as `padded` makes it, [1, H, W]."""
    first = first_mask(mask).float()[None, None]
    return padded(functional.interpolate(first, (height, width), mode="nearest"), multiple)[0]


def read_points(text: str, width: int, height: int) -> DragPoints:
    """Return the points that `text` holds, scaled to a picture of `width` x `height` pixels."""
    if not text.strip():
        raise DragNoiseError("no point pair; place at least one handle and its target.")
    return DragPoints.parse(text, width, height)


def following(points: DragPoints, edit: DragEdit) -> DragPoints:
    """Return `points` with each pair beginning where the pair of the same number ended in `edit`.

    The edit's picture may be another one by less than a cell of its latent, padded or cropped to whole cells; then both
    have the same pixels. Otherwise the ends are scaled to the picture of `points`.
    """
    own, seen = (points.width, points.height), (edit.points.width, edit.points.height)
    same = all(abs(here - there) < CELL for here, there in zip(own, seen, strict=True))
    x, y = (1.0, 1.0) if same else (here / there for here, there in zip(own, seen, strict=True))
    return points.following([(px * x, py * y) for px, py in edit.path[-1].tolist()])


def read_mask(name: str) -> Tensor:
    """Return the painted mask, [H, W] in [0, 1], 1 = may change, as `load_mask` reads it."""
    return load_mask(stored_file(name, "mask"))

"""What crosses the border between the host and the core: link types and conversions, here and nowhere else."""

import hashlib
import os
from dataclasses import replace
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ...dragnoise_core.acceleration import ACCELERATIONS
from ...dragnoise_core.errors import DragNoiseError
from ...dragnoise_core.inversion import InversionPath

CATEGORY = "DragNoise"
# Rides along in the LATENT of an inversion: its latents at every level, [k + 1, 1, C, h, w], model units, on the CPU.
PATH = "dragnoise_path"
DragPointsType = io.Custom("DRAG_POINTS")
DragEditType = io.Custom("DRAG_EDIT")


def to_core_image(image: Tensor) -> Tensor:
    """Return the host's IMAGE, [B, H, W, 3 or 4] in [0, 1], as [B, 3, H, W]."""
    return image[..., :3].movedim(-1, 1).float().contiguous()


def to_host_image(image: Tensor) -> Tensor:
    """Return [B, 3, H, W] as the host's IMAGE, [B, H, W, 3] in [0, 1]."""
    return image.movedim(1, -1).float().clamp(0, 1).cpu().contiguous()


def latent_samples(latent: dict[str, Any], model) -> Tensor:
    """Return the samples of a LATENT of one picture, [1, C, h, w], as the host scales them.

    Raises DragNoiseError for several pictures and for latents of another kind of model. An inpainting mask that
    rides along in the LATENT is left behind: it would change the sampling.
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
    return samples


def fitting_path(path: InversionPath | None, latent: Tensor, sigmas: Tensor) -> InversionPath | None:
    """Return the path of the inversion that ended in `latent`, on its device; None for none, or another's.

    A LATENT that other nodes have worked on may bring a path along that is no longer its own.
    """
    if path is None or path.latents.shape != (len(sigmas), *latent.shape):
        return None
    path = replace(path, latents=path.latents.to(latent))
    scale = float(latent.abs().max())
    return path if torch.allclose(path.latents[0], latent, rtol=0, atol=1e-3 * scale) else None


def advanced(*inputs: io.Input) -> list[io.Input]:
    """Return `inputs` marked so that the host folds them away until asked for."""
    for entry in inputs:
        entry.extra_dict = {**entry.extra_dict, "advanced": True}
    return list(inputs)


def acceleration_input() -> io.Input:
    """The choice between CUDA graphs and Python, alike in every node that runs the model."""
    return io.Combo.Input(
        "acceleration",
        options=list(ACCELERATIONS),
        default="auto",
        optional=True,
        tooltip="auto: CUDA graphs where they can be captured: several times faster on an NVIDIA GPU, the first time "
        "slower. eager: without. cudagraph: with, or an error that says why not.",
    )


def low_memory_input() -> io.Input:
    """The choice of less memory, alike in every node that drags."""
    return io.Boolean.Input(
        "low_memory",
        default=False,
        optional=True,
        tooltip="Keeps less in memory for every gradient step and computes it again: slower, for small GPUs.",
    )


def stored_file(name: str, purpose: str) -> str:
    """Return the path of `name`, "file.ext [input]" or "[output]", inside the host's folders.

    Raises DragNoiseError when it lies outside of them or does not exist.
    """
    plain, folder = folder_paths.annotated_filepath(name)
    path = inside(folder or folder_paths.get_input_directory(), plain, purpose)
    if not os.path.isfile(path):
        raise DragNoiseError(f"the {purpose} {name!r} does not exist; choose it again.")
    return path


def inside(folder: str, name: str, purpose: str) -> str:
    """Return the path of `name` in `folder`. Raises DragNoiseError when that lies outside."""
    folder = os.path.abspath(folder)
    path = os.path.abspath(os.path.join(folder, name))
    if not path.startswith(folder + os.sep):
        raise DragNoiseError(f"the {purpose} {name!r} lies outside the host's folders; choose one inside.")
    return path


def content_hash(path: str) -> str:
    """Return a hash of the file's content, by which the host sees that a file of the same name is another one."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def one_mask(mask: Tensor | None) -> Tensor | None:
    """Return the host's MASK, [B, H, W] or [H, W], as a plain copy; None stays None."""
    return None if mask is None else mask.detach().to("cpu", torch.float32).clone()

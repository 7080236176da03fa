"""Loading a model for the standalone package: the demo model, a diffusers folder, a checkpoint file, a hub id."""

import re
from pathlib import Path

import torch
from torch import Tensor

from ..errors import DragNoiseError, quoted
from ..schedule import scaled_linear_sigmas
from .loaded_model import LoadedModel, freeze

PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def load_model(
    name: str = "demo", device: str | None = None, dtype: torch.dtype | None = None, config: str | None = None
) -> LoadedModel:
    """Load a model, frozen.

    name: "demo"; a local diffusers folder; a local .safetensors checkpoint of Stable Diffusion; or a hub id such as
    "owner/model", which is downloaded to the hub's cache or taken from there. device: torch's name, the GPU when
    left out and there is one. dtype: float16 on CUDA, else float32, when left out. config: for a checkpoint file, a
    local diffusers folder with the configuration and the tokenizer; the hub's when left out.
    Raises DragNoiseError when something is missing, unsafe to read, damaged, or cannot be dragged.
    """
    device = usable_device(device)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    if name == "demo":
        return _load_demo(device, dtype)
    # Imported here: the demo model needs no transformers.
    from .diffusers_models import load_checkpoint, load_folder, load_hub

    path = Path(name)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise DragNoiseError(f"{name} may hold pickled code, which is never run; convert it to .safetensors.")
    if path.is_dir():
        return load_folder(path, name, device, dtype)
    if path.suffix.lower() == ".safetensors":
        if not path.is_file():
            raise DragNoiseError(f"no checkpoint at {name}; check the name.")
        return load_checkpoint(path, config, device, dtype)
    if path.exists() or not HUB_ID.fullmatch(name):
        raise DragNoiseError(
            f"{quoted(name)} is no model; give demo, a diffusers folder, a .safetensors file or a hub id such as "
            "owner/model."
        )
    return load_hub(name, device, dtype)


def usable_device(name: str | None) -> torch.device:
    """Return the device of that name, the GPU for None where there is one. Raises DragNoiseError if it is unusable."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DragNoiseError(f"device {quoted(name)} cannot be used here ({reason}); choose cpu or cuda.") from error
    return device


def _load_demo(device: torch.device, dtype: torch.dtype) -> LoadedModel:
    from ..demo.loader import load_demo_model

    demo = load_demo_model(device, dtype)
    for network in (demo.unet, demo.autoencoder):
        freeze(network, device, dtype)

    @torch.no_grad()
    def encode(picture: Tensor, generator: torch.Generator | None = None, draws: int = 1) -> Tensor:
        # This autoencoder has no posterior: all draws are the same.
        return demo.encode(picture.to(device, dtype)).float().expand(draws, -1, -1, -1)

    @torch.no_grad()
    def decode(latent: Tensor) -> Tensor:
        return demo.decode(latent.to(device, dtype)).float()

    def conditions(prompt: str, width: int, height: int) -> tuple[Tensor, None]:
        return demo.prompt(prompt), None

    return LoadedModel("demo", demo.unet, scaled_linear_sigmas(), "epsilon", 256, encode, decode, conditions)

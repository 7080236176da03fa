"""Loading a model for the standalone package: the demo model, a diffusers folder, a checkpoint file, a hub id."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..acceleration import GraphedUNet, Graphs, choose_graphs
from ..errors import DragNoiseError
from ..schedule import scaled_linear_sigmas
from ..split_unet import SplitUNet
from .diffusers_unet import DiffusersSplitUNet

PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to edit with, frozen, on one device.

    name: as it was asked for. sigmas: the training schedule's noise levels, ascending, [T]. native_side: it was
    trained on pictures of about native_side^2 pixels. encode: picture [1, 3, H, W] in [0, 1] -> latent in model
    units, [1, 4, H / 8, W / 8], float32; with a generator and a number of draws, so many from the autoencoder's
    posterior instead of its mean, [draws, 4, H / 8, W / 8]. decode: the way back. conditions: (prompt, width, height)
    -> prompt embedding, [1, tokens, D], and the added conditions (SDXL) or None. acceleration: "auto", "eager" or
    "cudagraph", see `choose_graphs`. low_memory: see DiffusersSplitUNet.
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
            f"{name!r} is no model; give demo, a diffusers folder, a .safetensors file or a hub id such as owner/model."
        )
    return load_hub(name, device, dtype)


def freeze(module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """Move a module, set it to evaluation, take its weights out of autograd; channels last: convolutions are faster."""
    module = module.to(device).eval().requires_grad_(False)
    if module.dtype != dtype:
        module = module.to(dtype)
    return module.to(memory_format=torch.channels_last)


def freeze_autoencoder(module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """Freeze an autoencoder that never needs a gradient; its peak of memory falls by half its largest feature map.

    Activations are computed in the norms' results, which nothing else reads, and turned to channels last, which the
    convolutions would else do beside them.
    """
    for activation in module.modules():
        if isinstance(activation, torch.nn.SiLU):
            activation.inplace = True
            activation.register_forward_hook(_to_channels_last)
    return freeze(module, device, dtype)


def _to_channels_last(module: torch.nn.Module, arguments: tuple, result: Tensor) -> Tensor:
    return result.contiguous(memory_format=torch.channels_last)


def usable_device(name: str | None) -> torch.device:
    """Return the device of that name, the GPU for None where there is one. Raises DragNoiseError if it is unusable."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DragNoiseError(f"device {name!r} cannot be used here ({reason}); choose cpu or cuda.") from error
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

"""Image fidelity, 1 - LPIPS, as DragDiffusion's evaluation measures it."""

import importlib
import importlib.util
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import DragNoiseError

SIDE, LAYERS = 224, 5
ALEXNET = "alexnet-owt-7be5be79.pth"
ALEXNET_URL = f"https://download.pytorch.org/models/{ALEXNET}"
# What torch's reader raises for files that hold something else.
DAMAGE = (
    OSError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, EOFError, pickle.UnpicklingError
)  # fmt: skip

# Two pictures, [1, 3, h, w] in [-1, 1], to their LPIPS.
Metric = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def fidelity(metric: Metric, source: Tensor, dragged: Tensor, region: Tensor | None = None) -> float:
    """Return 1 - LPIPS of two pictures, [1, 3, H, W] in [0, 1], both scaled to 224 x 224 (bilinear) in [-1, 1].

    region: bool, [H, W]: only what lies in it counts; elsewhere the result is replaced by the source.
    """
    if region is not None:
        dragged = torch.where(region, dragged, source)
    small = [functional.interpolate(picture * 2 - 1, (SIDE, SIDE), mode="bilinear") for picture in (source, dragged)]
    return 1 - float(metric(*small))


def load_lpips(weights: str | None = None) -> Metric:
    """Return LPIPS over AlexNet (Zhang et al., CVPR 2018) from the package `lpips`, on the CPU.

    weights: torchvision's AlexNet file; torch's own download folder when left out. Nothing is downloaded and nothing
    unpickled. Raises DragNoiseError, naming the package or file, when one is missing.
    """
    path = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET
    if importlib.util.find_spec("lpips") is None:
        raise DragNoiseError("the package lpips is missing; pip install lpips.")
    try:
        lpips = importlib.import_module("lpips")
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DragNoiseError(f"the package lpips cannot be imported ({reason}); install it and torchvision.") from error
    if not path.is_file():
        raise DragNoiseError(f"AlexNet's weights are not at {path}; put {ALEXNET_URL} there.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about how lpips calls it
        # Without weights at first: the package would download one file and unpickle both.
        metric = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False)
    linear = _weights(Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth")
    alexnet = _weights(path)
    try:
        trunk = [key for key in metric.state_dict() if key.startswith("net.")]
        # The package names AlexNet's layers by the slices that hold them.
        metric.load_state_dict({key: alexnet[f"features.{key.split('.', 2)[2]}"] for key in trunk}, strict=False)
        unknown = metric.load_state_dict(linear, strict=False).unexpected_keys
    except (KeyError, RuntimeError) as error:
        raise DragNoiseError(f"{path} is not AlexNet ({str(error)[:80]}); put {ALEXNET_URL} there.") from error
    if unknown or len(linear) != LAYERS:
        raise DragNoiseError("the package lpips has other weights than its version 0.1; pip install lpips==0.1.4.")
    return metric.eval().requires_grad_(False)


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise DragNoiseError(f"{path} is no file of weights alone, so it is not read; download it again.") from error

"""Half precision and graphs against float32: gradients that underflow, and how far whole optimisations agree."""

import copy
from typing import Any

import torch
from torch import Tensor

from ...configuration import preset
from ...edit import DragEdit
from ...grid import grid_size
from ...optimisation import optimise
from ...points import DragPoints
from ...schedule import ddim_sigmas, scaled_linear_sigmas
from ...standalone.loaded_model import LoadedModel, freeze
from ...standalone.quick_layers import quicken
from ...supervision import FLOAT16_LOSS_SCALE, motion_loss
from .package import STRENGTH, points_on
from .random_models import Shape, find_shape, random_prompt, random_unet

# As fractions of the picture: far enough that they do not arrive.
PAIRS = (((0.3, 0.3), (0.7, 0.35)), ((0.5, 0.5), (0.55, 0.9)), ((0.7, 0.7), (0.3, 0.65)))


def measure_precision(narrow: bool, device: torch.device) -> dict[str, list[dict]]:
    """Return the rows of both tables, on the shape of SD 1.5."""
    # Otherwise a GPU would round the reference's convolutions to ten bits.
    torch.backends.cudnn.allow_tf32 = False
    shape = find_shape("sd15", narrow)
    whole = freeze(random_unet(shape, device), device, torch.float32)
    half = quicken(freeze(copy.deepcopy(whole), device, torch.float16))
    sigmas = ddim_sigmas(scaled_linear_sigmas(), shape.steps, STRENGTH).float()
    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(1, 4, shape.side // 8, shape.side // 8, generator=generator).to(device)
    noisy = latent * (1 + sigmas[0] ** 2).sqrt()
    points = points_on(shape.side, PAIRS)
    networks = {"float32": whole, "float16": half}
    return {
        "gradients": _gradients(networks, shape, noisy, float(sigmas[0]), points),
        "agreement": _agreement(networks, shape, noisy, sigmas, points),
    }


def _gradients(networks: dict, shape: Shape, noisy: Tensor, sigma: float, points: DragPoints) -> list[dict]:
    """Return what the first gradient of the bottleneck loses in half precision, at loss scale 1 and at the core's."""
    rows, reference = [], None
    for precision, scale in (("float32", 1.0), ("float16", 1.0), ("float16", FLOAT16_LOSS_SCALE)):
        gradient = _gradient(_model(networks[precision], shape, "eager"), noisy, sigma, points, scale)
        reference = gradient if reference is None else reference
        rows.append(
            {
                "precision": precision,
                "loss scale": scale,
                "zero": float((gradient == 0).float().mean()),
                "not finite": float((~gradient.isfinite()).float().mean()),
                "largest": float(gradient.abs().max()),
                "median": float(gradient.abs().median()),
                "off float32": float((gradient - reference).norm() / reference.norm()),
            }
        )
    return rows


def _gradient(model: LoadedModel, noisy: Tensor, sigma: float, points: DragPoints, scale: float) -> Tensor:
    unet = model.split_unet("", points.width, points.height)
    encoded = unet.encode(noisy, sigma)
    bottleneck = encoded.bottleneck.clone().requires_grad_(True)
    feature = unet.decode(encoded, bottleneck, to_tap=True).feature
    grid = grid_size(noisy)
    handles, targets = (cells.to(noisy.device) for cells in points.on_grid(*grid))
    loss = motion_loss(feature, handles, targets, radius=1, grid=grid)
    return torch.autograd.grad(loss * scale, [bottleneck])[0] / scale


def _agreement(networks: dict, shape: Shape, noisy: Tensor, sigmas: Tensor, points: DragPoints) -> list[dict]:
    """Return how far pairs of whole optimisations with preset `paper` agree; on a CPU there are no graphs."""
    config = preset("paper", iterations=shape.iterations)

    def run(precision: str, acceleration: str, times: int) -> list[DragEdit]:
        model = _model(networks[precision], shape, acceleration)
        unet = model.accelerated(model.split_unet("", shape.side, shape.side))
        return [optimise(unet, noisy, sigmas, points, config=config) for _ in range(times)]

    whole, eager = run("float32", "eager", 1)[0], run("float16", "eager", 2)
    pairs = {"float16 eager, again / float16 eager": eager[::-1], "float16 eager / float32 eager": (eager[0], whole)}
    if noisy.is_cuda:
        graphs = run("float16", "cudagraph", 2)
        pairs["float16 cudagraph, again / float16 cudagraph"] = graphs[::-1]
        pairs["float16 cudagraph / float16 eager"] = graphs[0], eager[0]
        pairs["float16 cudagraph / float32 eager"] = graphs[0], whole
    return [{"pair": name, **_difference(*pair)} for name, pair in pairs.items()]


def _difference(one: DragEdit, other: DragEdit) -> dict[str, Any]:
    """Return how far two edits are from each other.

    bottleneck: their distance over the size of the second one's change. way: how far its point that moved most went,
    pixels. points: largest distance of a tracked point, pixels, on the way and at its end. alike: how many trackings
    agree before one differs.
    """
    change = (other.bottlenecks - other.originals).norm()
    steps = min(len(one.path), len(other.path))
    distances = (one.path[:steps] - other.path[:steps]).norm(dim=2).amax(1)
    return {
        "iterations": f"{one.iterations} / {other.iterations}",
        "bottleneck": float((one.bottlenecks - other.bottlenecks).norm() / change),
        "largest difference": float((one.bottlenecks - other.bottlenecks).abs().max()),
        "way": float((other.path[1:] - other.path[:-1]).norm(dim=2).sum(0).max()),
        "points, on the way": float(distances.max()),
        "points, at the end": float((one.path[-1] - other.path[-1]).norm(dim=1).max()),
        "alike": f"{int((distances == 0).cumprod(0).sum()) - 1} of {steps - 1}",
    }


def _model(network: torch.nn.Module, shape: Shape, acceleration: str) -> LoadedModel:
    """Return the network as a model without an autoencoder."""

    def no_pictures(_: Any) -> Tensor:
        raise NotImplementedError

    prompt = random_prompt(shape, network.device)
    return LoadedModel(
        "random weights", network, scaled_linear_sigmas(), "epsilon", shape.side, no_pictures, no_pictures,
        lambda text, width, height: prompt, acceleration=acceleration,
    )  # fmt: skip

"""The optimisation: bottlenecks whose decoder features move from handle to target."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .configuration import PRESETS, OptimisationConfig
from .edit import DragEdit
from .errors import DragNoiseError
from .gradient_steps import GradientSteps, Level
from .identity import keep_identity
from .inversion import InversionPath, evaluate_ahead
from .points import DragPoints
from .progress import Callback, Progress
from .propagation import carry
from .schedule import check_sigmas
from .split_unet import Decoded, SplitUNet
from .supervision import latent_mask


@torch.no_grad()
def optimise(
    unet: SplitUNet,
    x: Tensor,
    sigmas: Tensor,
    points: DragPoints,
    *,
    mask: Tensor | None = None,
    config: OptimisationConfig = PRESETS["default"],
    callback: Callback | None = None,
) -> DragEdit:
    """Find the bottlenecks that drag every handle to its target (DragNoise, Liu et al. 2024, section 3).

    x: noisy latent, sigma space at sigmas[0], [1, 4, H, W]. sigmas: descending, [k + 1]; the first
    `config.drag_steps` levels are optimised, as far as they are not free. points: on the picture that the latent
    shows, at any resolution. mask: [H, W], any size, 1 = may change; None or full = everything may. Points that have
    arrived already give an edit that changes nothing. Where the configuration keeps identity or background, the
    levels that are left are walked as well, for their corrections (`keep_identity`). Raises DragNoiseError when the
    inputs do not fit or the optimisation diverges; whatever `callback` raises passes through and leaves no state
    behind.
    """
    return drag(unet, x, sigmas, points, mask=mask, config=config, callback=callback).edit


@dataclass(frozen=True, eq=False)
class Dragged:
    """An edit, and how far the optimisation has walked with it: latent, sigma space at sigmas[level], [1, 4, H, W]."""

    edit: DragEdit
    latent: Tensor
    level: int


@torch.no_grad()
def drag(
    unet: SplitUNet,
    x: Tensor,
    sigmas: Tensor,
    points: DragPoints,
    *,
    mask: Tensor | None = None,
    config: OptimisationConfig = PRESETS["default"],
    path: InversionPath | None = None,
    callback: Callback | None = None,
) -> Dragged:
    """As `optimise`, and return where the walk ended: `sample` goes on from there and need not repeat it.

    path: of the inversion that ended in x, see `inversion_path`. Where identity or background are kept its latents are
    the unedited picture's, exactly, which is not sampled again to be compared with. Features it lacks are computed.
    """
    check_sigmas(sigmas)
    if x.ndim != 4 or len(x) != 1:
        raise DragNoiseError(f"the latent has shape {tuple(x.shape)}; drag one picture at a time, [1, channels, h, w].")
    allowed = None if mask is None else latent_mask(mask, x)
    levels = sigmas.tolist()
    walked = len(levels) - 1 - config.free_steps
    steps = min(config.drag_steps, walked)
    if steps < 1:
        raise DragNoiseError(
            f"free_steps is {config.free_steps} of {len(levels) - 1} steps, so none is left to drag in; lower it."
        )
    holds = bool(config.compared_steps)
    if not holds:
        walked = steps - 1
        path = None
    if path is not None and len(path.latents) != len(levels):
        raise DragNoiseError(f"the inversion's path has {len(path.latents)} latents for {len(levels)} noise levels.")
    run = GradientSteps.start(unet, x, points, allowed, config, callback)
    hold = partial(keep_identity, background=config.background, reluctance=run.reluctance(x), mask=allowed)
    found: list[tuple[Tensor, Tensor]] = []
    corrections: list[Tensor] = []
    source = edited = x
    for step in range(max(steps, walked)):
        sigma, following = levels[step], levels[step + 1]
        goes_on = step < walked
        if path is None:
            source_encoded = unet.encode(source, sigma)
            to_tap = run.mask is None and not goes_on
            source_decoded = unet.decode(source_encoded, source_encoded.bottleneck, to_tap=to_tap)
        else:
            source, source_decoded = _inverted(unet, path, step, sigma, following, step < steps)
        encoded = source_encoded if path is None and not step else unet.encode(edited, sigma)
        bottleneck = carry(config.propagation, encoded.bottleneck, *found[-1]) if found else encoded.bottleneck
        level = Level(encoded, edited, source, source_decoded, sigma, following, last=step + 1 == steps)
        decoded = None
        if step < steps:
            bottleneck, decoded = run.optimise(bottleneck, level, config.iterations * (step + 1) // steps)
            found.append((bottleneck, encoded.bottleneck))
            if not run.losses and run.arrived():
                return Dragged(_edit(run, found, [], x, sigmas), x, 0)
        if goes_on:
            decoded = decoded or unet.decode(encoded, bottleneck, to_tap=False)
            if callback and step >= steps:
                clean = edited - sigma * decoded.epsilon
                callback(Progress("sampling", step + 1, len(levels) - 1, lambda clean=clean: clean))
            if holds:
                kept = partial(hold, identity=config.identity if step < steps else 0.0)
                corrections.append(_correction(level, decoded, kept))
            source = source + source_decoded.epsilon * (following - sigma)
            edited = edited + decoded.epsilon * (following - sigma)
            if holds:
                # A clean prediction that is higher by the correction is an epsilon lower by its part of sigma.
                edited = edited + corrections[-1] * (1 - following / sigma)
    return Dragged(_edit(run, found, corrections, x, sigmas), edited, walked)


def _inverted(
    unet: SplitUNet, path: InversionPath, step: int, sigma: float, following: float, compared: bool
) -> tuple[Tensor, Decoded]:
    """Return the unedited latent and what the inversion's step to it was made with, which a step back takes."""
    latent, below = path.latents[step], path.latents[step + 1]
    feature = None
    if compared:
        kept = path.features[step : step + 1]
        feature = kept[0] if kept else evaluate_ahead(unet, below, following, sigma, to_tap=True).feature
    return latent, Decoded(feature, (below - latent) / (following - sigma))


def _correction(level: Level, decoded: Decoded, kept: Callable[..., Tensor]) -> Tensor:
    clean = level.edited - level.sigma * decoded.epsilon
    source = level.source - level.sigma * level.source_decoded.epsilon
    return kept(clean, source, decoded.feature, level.source_decoded.feature) - clean


def _edit(
    steps: GradientSteps, found: list[tuple[Tensor, Tensor]], corrections: list[Tensor], latent: Tensor, sigmas: Tensor
) -> DragEdit:
    bottlenecks, originals = (torch.cat(parts).float() for parts in zip(*found, strict=True))
    corrections = torch.cat(corrections or [latent[:0]]).float()
    # Asked where the tensors are: waking a CPU's threads for it can take longer than ten gradient steps.
    if not torch.stack([part.isfinite().all() for part in (bottlenecks, originals, corrections)]).all():
        raise DragNoiseError(
            f"the optimisation diverged at learning rate {steps.config.learning_rate}; lower it, or use float32."
        )
    schedule = sigmas.float().cpu()
    return DragEdit(
        bottlenecks=bottlenecks.cpu(),
        originals=originals.cpu(),
        corrections=corrections.cpu(),
        sigmas=schedule[: len(found)].clone(),
        schedule=schedule,
        path=steps.wanted.from_grid(torch.stack(steps.path), *steps.grid).cpu(),
        losses=torch.stack(steps.losses).float().cpu() if steps.losses else torch.zeros(0),
        points=steps.wanted,
        config=steps.config,
    )

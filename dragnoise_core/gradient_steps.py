"""The loop of the method at one noise level: track the points, supervise the features, step the bottleneck.

The formulas of the paper (DragNoise, Liu et al. 2024, sections 3.3 and 3.4) and where they are; a_i is a handle point:
    semantic alignment    sum_i sum_{p in Omega(a_i, r1)} |sg(F_p) - F_{p + v_i}|_1          `motion_loss`
    mask                  lambda |change (1 - M)|_1, of the next latent as in the code         `mask_loss`
    point tracking        a_i := argmin_{p in Omega(a_i, r2)} |F'_p - f_i^0|_1                `track`
    propagation           later steps take the optimised bottleneck                            `carry`
The preset "paper" sets what it needs of them; where the published code differs from the paper it follows the code.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .acceleration import Answers, replayed
from .descent import bounded, choose_descent
from .progress import Callback
from .source import Level
from .split_unet import Decoded, Encoded, SplitUNet
from .supervision import FLOAT16_LOSS_SCALE, Supervision, mask_term, prepare_mask_term, sample_patches
from .trace import Trace
from .tracking import track


def optimise_bottleneck(
    unet: SplitUNet,
    start: Tensor,
    level: Level,
    trace: Trace,
    supervision: Supervision,
    *,
    mask: Tensor | None,
    budget: int,
    last: bool,
    callback: Callback | None,
) -> tuple[Tensor, Decoded]:
    """Return the bottleneck, [1, C, h, w], after gradient steps until arrival or `budget` steps in all, decoded too.

    start: the bottleneck before. mask: [1, 1, H, W], 1 = may change. last: track once more after the last step.
    A step that leaves the finite numbers is taken back, and ends the level: `Trace.diverged` counts it.
    """
    config = trace.config
    known = _prepare(level, trace, supervision, mask)
    # Laid out as the gradient is: fused optimisers want that.
    bottleneck = start.clone(memory_format=torch.contiguous_format).requires_grad_(True)
    if trace.settled:
        # Most often the points still are where they should be: seeing that takes no gradient.
        decoded = unet.decode(level.encoded, bottleneck.detach(), to_tap=False)
        trace.move(_find_points(supervision, decoded.feature, trace.points, known))
        trace.settled = bool(trace.arrived())
        if trace.settled:
            return bottleneck.detach(), decoded
    optimiser = choose_descent(config, bottleneck, level.encoded.bottleneck)
    answers = Answers(bottleneck.device)
    safe = trace.moment(bottleneck)
    while len(trace.losses) < budget:
        looks = len(trace.losses) % config.gradient_steps == 0
        tracks = looks and len(trace.losses) > trace.tracked
        step = partial(_track_and_supervise, supervision, tracks)
        points, loss, gradient = replayed(unet, step, level.encoded, bottleneck.detach(), trace.points, known)
        if tracks:
            trace.move(points)
        if looks:
            here = trace.moment(bottleneck)
            answers.ask(trace.arrived() | ~loss.isfinite(), len(trace.losses), (here, safe, loss.isfinite()))
            safe = here
        if answers.heard(len(trace.losses)):
            break
        bottleneck.grad = gradient
        optimiser.step()
        if config.bottleneck_change:
            bottleneck.data = bounded(bottleneck.data, level.encoded.bottleneck, config.bottleneck_change)
        trace.losses.append(loss.clone())
        trace.report(callback, partial(_denoised, unet, level, bottleneck.detach()))
    found = bottleneck.detach()
    if answers.heard():
        here, safe, finite = answers.moment
        trace.settled = bool(finite)
        found = trace.back_to(here) if trace.settled else trace.take_back(safe)
    decoded = unet.decode(level.encoded, found, to_tap=False)
    if not decoded.feature.isfinite().all():
        found = trace.take_back(safe)
        decoded = unet.decode(level.encoded, found, to_tap=False)
    if last and not trace.settled:
        trace.move(_find_points(supervision, decoded.feature, trace.points, known))
    return found, decoded


@torch.enable_grad()
def _track_and_supervise(
    supervision: Supervision,
    tracks: bool,
    unet: SplitUNet,
    encoded: Encoded,
    bottleneck: Tensor,
    points: Tensor,
    known: dict[str, Any],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the points, tracked or as they were, the loss, and its gradient in the bottleneck."""
    leaf = bottleneck.detach().requires_grad_(True)
    decoded = unet.decode(encoded, leaf, to_tap=not known["mask"])
    if tracks:
        points = _find_points(supervision, decoded.feature.detach(), points, known)
    loss = supervision.loss(decoded.feature, points, known["supervision"])
    if known["mask"]:
        loss = loss + supervision.config.mask_weight * mask_term(decoded.epsilon, **known["mask"])
    scale = FLOAT16_LOSS_SCALE if decoded.feature.dtype == torch.float16 else 1.0
    (gradient,) = torch.autograd.grad(loss * scale, [leaf])
    return points.detach(), loss.detach(), gradient.contiguous()


def _prepare(level: Level, trace: Trace, supervision: Supervision, mask: Tensor | None) -> dict[str, Any]:
    """Return what stays the same during the level's steps: tensors, for graphs read them where they are."""
    feature, placed = level.source.feature, trace.placed
    known = {
        "reference": sample_patches(feature, placed.handles, 0, placed.grid)[:, :, 0, 0],
        "supervision": supervision.prepare(feature, placed, mask),
        "mask": {},
    }
    if mask is not None and trace.config.mask_weight:
        step = (level.sigma, level.sigma_next)
        known["mask"] = prepare_mask_term(mask, level.edited, level.source.latent, level.source.epsilon, step)
    return known


def _find_points(supervision: Supervision, feature: Tensor, points: Tensor, known: dict[str, Any]) -> Tensor:
    radius, whole = supervision.config.tracking_radius, supervision.whole_cells
    warped = known["supervision"]["targets"] if supervision.config.warp else None
    return track(feature, known["reference"], points, radius, supervision.grid, whole=whole, warped=warped)


def _denoised(unet: SplitUNet, level: Level, bottleneck: Tensor) -> Tensor:
    with torch.no_grad():
        return level.edited - level.sigma * unet.decode(level.encoded, bottleneck, to_tap=False).epsilon

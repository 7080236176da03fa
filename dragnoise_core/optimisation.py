"""From a noisy latent and points to an edit: level by level, the optimisation and what keeps the picture itself."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from .background import change_threshold, keep_background
from .configuration import PRESETS, OptimisationConfig
from .dense_supervision import DenseSupervision
from .edit import DragEdit
from .errors import DragNoiseError
from .finite import check_finite
from .gradient_steps import optimise_bottleneck
from .grid import GridPoints, check_latent_size, grid_size
from .inversion import InversionPath
from .points import DragPoints
from .progress import Callback, Progress
from .propagation import carry
from .reach import masked_reach
from .schedule import check_sigmas, to_variance_preserving
from .source import Level, inverted_source, sampled_path, sampled_source
from .split_unet import SplitUNet
from .supervision import PatchSupervision, latent_mask, sample_patches
from .trace import Trace
from .tracking import track
from .warping import WarpedLook, pinned

SUPERVISIONS = {"patches": PatchSupervision, "dense": DenseSupervision}
# What has turned or grown on its way resembles itself less: where the warp has put it, a match half as good counts.
WARP_FAVOURED = 2.0


@dataclass(frozen=True, eq=False)
class Dragged:
    """An edit, and how far the optimisation has walked with it: latent, sigma space at sigmas[level], [1, 4, H, W]."""

    edit: DragEdit
    latent: Tensor
    level: int


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
    arrived already give an edit that changes nothing. Where the configuration keeps background or look, the
    remaining levels are walked as well, for their corrections (`keep_background`, `WarpedLook`). Raises
    DragNoiseError when the inputs do not fit or the optimisation diverges; whatever `callback` raises passes through
    and leaves no state behind.
    """
    return drag(unet, x, sigmas, points, mask=mask, config=config, callback=callback).edit


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
    warped: Tensor | None = None,
    callback: Callback | None = None,
) -> Dragged:
    """As `optimise`, and return where the walk ended: `sample` goes on from there and need not repeat it.

    path: of the inversion that ended in x, see `inversion_path`. Where background or look are kept, the
    unedited picture to compare with is taken from it, exactly, and not sampled. Features it lacks are computed.
    warped: the latent of the `warped_picture` in model units, [1, 4, H, W]; without it the unedited latent is warped
    instead, which is softer.
    """
    check_sigmas(sigmas)
    if x.ndim != 4 or len(x) != 1:
        raise DragNoiseError(f"the latent has shape {tuple(x.shape)}; drag one picture at a time, [1, channels, h, w].")
    check_latent_size(x)
    check_finite(x, "what made the latent")
    allowed = None if mask is None else latent_mask(mask, x)
    levels = sigmas.tolist()
    end = len(levels) - 1 - config.free_steps
    steps = min(config.drag_steps, end)
    if steps < 1:
        raise DragNoiseError(
            f"free_steps is {config.free_steps} of {len(levels) - 1} steps, so none is left to drag in; lower it."
        )
    supervision = SUPERVISIONS[config.supervision](config, grid_size(x))
    placed = GridPoints.of(points, x, whole=supervision.whole_cells)
    trace = Trace(points, placed, config)
    if trace.arrived():
        own = unet.encode(x, levels[0]).bottleneck
        return Dragged(trace.edit([(own, own)], [], x, sigmas, allowed), x, 0)
    compares = bool(config.compared_steps)
    if compares:
        path = path or sampled_path(unet, x, levels, features=steps)
        sources = inverted_source(unet, path, levels, steps)
        clean = to_variance_preserving(path.latents[-1], levels[-1])
        trace.placed = placed = masked_reach(placed, clean, allowed)
        threshold = change_threshold(config.background * float(clean.std()), placed, x, allowed)
    else:
        sources = sampled_source(unet, x, levels)
    free = pinned(allowed, placed, x)
    if compares:
        keep = partial(keep_background, threshold=threshold, mask=free)
        look = WarpedLook.of(placed, clean, warped, free)
    found: list[tuple[Tensor, Tensor]] = []
    corrections: list[Tensor] = []
    edited = x
    walked = end if compares else steps
    for step, (sigma, sigma_next) in enumerate(pairwise(levels[: walked + 1])):
        source = next(sources)
        encoded = (source.encoded if source.latent is edited else None) or unet.encode(edited, sigma)
        bottleneck = carry(config.propagation, encoded.bottleneck, *found[-1]) if found else encoded.bottleneck
        if step < steps:
            bottleneck, decoded = optimise_bottleneck(
                unet,
                bottleneck,
                Level(edited, encoded, source, sigma, sigma_next),
                trace,
                supervision,
                mask=free,
                budget=config.iterations * (step + 1) // steps,
                last=step + 1 == steps,
                callback=callback,
            )
            found.append((bottleneck, encoded.bottleneck))
        else:
            decoded = unet.decode(encoded, bottleneck, to_tap=False)
        denoised = edited - sigma * decoded.epsilon
        if callback and step >= steps:
            callback(Progress("sampling", step + 1, len(levels) - 1, lambda denoised=denoised: denoised))
        edited = edited + decoded.epsilon * (sigma_next - sigma)
        if compares:
            source_denoised = source.latent - sigma * source.epsilon
            kept = keep(denoised, source_denoised)
            if config.warp:
                kept = look.on(kept, source_denoised, config.warp)
            corrections.append(kept - denoised)
            # A prediction that is higher by the correction is an epsilon that is lower by its part of sigma.
            edited = edited + corrections[-1] * (1 - sigma_next / sigma)
    if config.warp and trace.losses:
        # In the clean latents, which show what a warp brings where the features of noisy levels need not.
        own, now = (functional.unfold(part, 3, padding=1).unflatten(2, part.shape[-2:]) for part in (clean, kept))
        reference = sample_patches(own, placed.handles, 0, placed.grid)[:, :, 0, 0]
        settings = {"whole": supervision.whole_cells, "warped": placed.targets, "favour": WARP_FAVOURED}
        trace.move(track(now, reference, trace.points, config.tracking_radius, placed.grid, **settings))
    return Dragged(trace.edit(found, corrections, x, sigmas, allowed), edited, walked)

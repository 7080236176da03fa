"""The optimisation: bottlenecks whose decoder features move from handle to target."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .configuration import PRESETS, OptimisationConfig
from .descent import NormalisedDescent
from .edit import DragEdit
from .errors import DragNoiseError
from .identity import keep_identity
from .points import DragPoints
from .progress import Callback, Progress
from .propagation import carry
from .schedule import check_sigmas
from .split_unet import Decoded, Encoded, SplitUNet
from .supervision import GridSize, latent_mask, mask_loss, motion_loss, sample_patches
from .tracking import track

# Supervision grid cells for each latent cell and axis: half the picture's resolution for an 8x autoencoder.
CELLS_PER_LATENT = 4
# Keeps float16 gradients of the decoder away from underflow; neither descent feels the factor, so it is not undone.
FLOAT16_LOSS_SCALE = 1024.0
DESCENTS = {"adam": torch.optim.Adam, "normalised": NormalisedDescent}


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
    callback: Callback | None = None,
) -> Dragged:
    """As `optimise`, and return where the walk ended: `sample` goes on from there and need not repeat it."""
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
    holds = bool(config.identity or config.background)
    if not holds:
        walked = steps - 1
    run = _Drag.start(unet, x, points, allowed if config.mask_weight else None, config, callback)
    found: list[tuple[Tensor, Tensor]] = []
    corrections: list[Tensor] = []
    source = edited = x
    for step in range(max(steps, walked)):
        sigma, following = levels[step], levels[step + 1]
        goes_on = step < walked
        source_encoded = unet.encode(source, sigma)
        to_tap = run.mask is None and not goes_on
        source_decoded = unet.decode(source_encoded, source_encoded.bottleneck, to_tap=to_tap)
        encoded = unet.encode(edited, sigma) if step else source_encoded
        bottleneck = carry(config.propagation, encoded.bottleneck, *found[-1]) if found else encoded.bottleneck
        level = _Level(encoded, edited, source, source_decoded, sigma, following, last=step + 1 == steps)
        if step < steps:
            bottleneck = run.optimise_bottleneck(bottleneck, level, config.iterations * (step + 1) // steps)
            found.append((bottleneck, encoded.bottleneck))
            if not run.losses and run.arrived():
                return Dragged(run.finish(found, [], x, sigmas), x, 0)
        if goes_on:
            decoded = unet.decode(encoded, bottleneck, to_tap=False)
            if callback and step >= steps:
                clean = edited - sigma * decoded.epsilon
                callback(Progress("sampling", step + 1, len(levels) - 1, lambda clean=clean: clean))
            if holds:
                identity = config.identity if step < steps else 0.0
                corrections.append(level.correction(decoded, identity, config.background, allowed))
            source = source + source_decoded.epsilon * (following - sigma)
            edited = edited + decoded.epsilon * (following - sigma)
            if holds:
                # A clean prediction that is higher by the correction is an epsilon lower by its part of sigma.
                edited = edited + corrections[-1] * (1 - following / sigma)
    return Dragged(run.finish(found, corrections, x, sigmas), edited, walked)


@dataclass(frozen=True, eq=False)
class _Level:
    """One noise level: the edited latent and its encoding, and the unedited latent with its features."""

    encoded: Encoded
    edited: Tensor
    source: Tensor
    source_decoded: Decoded
    sigma: float
    following: float
    last: bool

    def mask_loss(self, epsilon: Tensor, mask: Tensor) -> Tensor:
        # Differences first: the latents are large beside what the edit changes.
        change = (self.edited - self.source) + (epsilon - self.source_decoded.epsilon) * (self.following - self.sigma)
        return mask_loss(change, mask, self.following)

    def correction(self, decoded: Decoded, identity: float, background: float, mask: Tensor | None) -> Tensor:
        clean = self.edited - self.sigma * decoded.epsilon
        source = self.source - self.sigma * self.source_decoded.epsilon
        features = decoded.feature, self.source_decoded.feature
        kept = keep_identity(clean, source, *features, identity=identity, background=background, mask=mask)
        return kept - clean


@dataclass(eq=False)
class _Drag:
    """The points on their way, and what has been recorded of it."""

    unet: SplitUNet
    config: OptimisationConfig
    callback: Callback | None
    wanted: DragPoints
    mask: Tensor | None
    grid: GridSize
    handles: Tensor
    targets: Tensor
    points: Tensor
    path: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)

    @classmethod
    def start(cls, unet, x, wanted, mask, config, callback) -> "_Drag":
        grid = (x.shape[-1] * CELLS_PER_LATENT, x.shape[-2] * CELLS_PER_LATENT)
        handles, targets = (cells.to(x.device) for cells in wanted.on_grid(*grid))
        drag = cls(unet, config, callback, wanted, mask, grid, handles, targets, handles)
        drag.path.append(handles)
        return drag

    def optimise_bottleneck(self, start: Tensor, level: _Level, budget: int) -> Tensor:
        """Return the bottleneck, [1, C, h, w], after gradient steps until `budget` steps in all or arrival."""
        config = self.config
        source_feature = level.source_decoded.feature
        reference = sample_patches(source_feature, self.handles, 0, self.grid)[:, :, 0, 0]
        template = None
        if config.template == "original":
            template = sample_patches(source_feature, self.handles, config.supervision_radius, self.grid)
        leaf = start.clone().requires_grad_(True)
        optimiser = DESCENTS[config.descent]([leaf], lr=config.learning_rate)
        while len(self.losses) < budget:
            with torch.enable_grad():
                decoded = self.unet.decode(level.encoded, leaf, to_tap=self.mask is None)
            if len(self.losses) % config.gradient_steps == 0:
                if self.losses:
                    self.follow(decoded.feature, reference)
                if self.arrived():
                    return leaf.detach()
            with torch.enable_grad():
                loss = self.loss(decoded, template, level)
                scale = FLOAT16_LOSS_SCALE if decoded.feature.dtype == torch.float16 else 1.0
                (leaf.grad,) = torch.autograd.grad(loss * scale, [leaf])
            optimiser.step()
            self.losses.append(loss.detach())
            self.report(leaf.detach(), level)
        if level.last:
            self.follow(self.unet.decode(level.encoded, leaf.detach(), to_tap=True).feature, reference)
        return leaf.detach()

    def loss(self, decoded: Decoded, template: Tensor | None, level: _Level) -> Tensor:
        config = self.config
        loss = motion_loss(
            decoded.feature,
            self.points,
            self.targets,
            radius=config.supervision_radius,
            grid=self.grid,
            step_length=config.step_length,
            stop_distance=config.stop_distance,
            template=template,
        )
        if self.mask is not None:
            loss = loss + config.mask_weight * level.mask_loss(decoded.epsilon, self.mask)
        return loss

    def follow(self, feature: Tensor, reference: Tensor) -> None:
        self.points = track(feature.detach(), reference, self.points, self.config.tracking_radius, self.grid)
        self.path.append(self.points)

    def arrived(self) -> bool:
        # The one synchronisation of an iteration.
        return bool(((self.points - self.targets).norm(dim=1) < self.config.stop_distance).all())

    def report(self, bottleneck: Tensor, level: _Level) -> None:
        if not self.callback:
            return

        def clean_latent() -> Tensor:
            with torch.no_grad():
                epsilon = self.unet.decode(level.encoded, bottleneck, to_tap=False).epsilon
            return level.edited - level.sigma * epsilon

        points = self.wanted.from_grid(self.points, *self.grid)
        step, total = len(self.losses), self.config.iterations
        self.callback(Progress("optimisation", step, total, clean_latent, points, self.losses[-1]))

    def finish(
        self, found: list[tuple[Tensor, Tensor]], corrections: list[Tensor], latent: Tensor, sigmas: Tensor
    ) -> DragEdit:
        bottlenecks = torch.cat([bottleneck for bottleneck, _ in found]).float().cpu()
        if not torch.isfinite(bottlenecks).all():
            raise DragNoiseError(
                f"the optimisation diverged at learning rate {self.config.learning_rate}; lower it, or use float32."
            )
        schedule = sigmas.float().cpu()
        return DragEdit(
            bottlenecks=bottlenecks,
            originals=torch.cat([original for _, original in found]).float().cpu(),
            corrections=torch.cat(corrections or [latent[:0]]).float().cpu(),
            sigmas=schedule[: len(found)].clone(),
            schedule=schedule,
            path=self.wanted.from_grid(torch.stack(self.path), *self.grid).cpu(),
            losses=torch.stack(self.losses).float().cpu() if self.losses else torch.zeros(0),
            points=self.wanted,
            config=self.config,
        )

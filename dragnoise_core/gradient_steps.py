"""The gradient steps on one bottleneck after another, and the points on their way."""

from collections import deque
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from .acceleration import GraphedUNet
from .configuration import OptimisationConfig
from .descent import NormalisedDescent
from .lattice import far_share, is_body, lattice, lattice_loss, reach
from .points import DragPoints
from .progress import Callback, Progress
from .split_unet import Decoded, Encoded, SplitUNet
from .supervision import GridSize, mask_loss, motion_loss, sample_patches
from .tracking import track

# Supervision grid cells for each latent cell and axis: half the picture's resolution for an 8x autoencoder.
CELLS_PER_LATENT = 4
# Keeps float16 gradients of the decoder away from underflow; neither descent feels the factor, so it is not undone.
FLOAT16_LOSS_SCALE = 1024.0
# Of places far from all paths, beyond that of others: one point says less of what moves than several.
FAR_RELUCTANCE = 2.0, 6.0
# Steps that a GPU may be given while its earlier answers are under way.
AHEAD = 2


@dataclass(frozen=True, eq=False)
class Level:
    """One noise level: the edited latent and its encoding, and the unedited latent with its features."""

    encoded: Encoded
    edited: Tensor
    source: Tensor
    source_decoded: Decoded
    sigma: float
    following: float
    last: bool


@dataclass(eq=False)
class GradientSteps:
    """The points on their way, and what has been recorded of it.

    allowed: [1, 1, h, w], where the picture may change; None = everywhere. body: whether the points go like one thing.
    """

    unet: SplitUNet
    config: OptimisationConfig
    callback: Callback | None
    wanted: DragPoints
    allowed: Tensor | None
    grid: GridSize
    targets: Tensor
    handles: Tensor
    points: Tensor
    body: bool
    path: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    settled: bool = False  # whether the points had arrived at the level before

    @classmethod
    def start(cls, unet, x, wanted, allowed, config, callback) -> "GradientSteps":
        grid = (x.shape[-1] * CELLS_PER_LATENT, x.shape[-2] * CELLS_PER_LATENT)
        places = wanted.on_grid(*grid, whole=config.whole_cells)
        body = is_body(*wanted.on_grid(*grid, whole=False))
        handles, targets = (cells.to(x.device) for cells in places)
        return cls(unet, config, callback, wanted, allowed, grid, targets, handles, handles, body, [handles])

    @property
    def mask(self) -> Tensor | None:
        """The mask, where its term of the loss acts."""
        return self.allowed if self.config.mask_weight else None

    def reluctance(self, x: Tensor) -> float | Tensor:
        """Return how many times the background's change a place of the latent x must change, 1 or [1, 1, h, w].

        Where neither a mask nor a body says what moves: more, the farther a place is from the paths.
        """
        if self.allowed is not None or self.body or not self.config.background:
            return 1.0
        places = lattice(tuple(x.shape[-2:]), self.grid, x.device).to(self.points)
        far = far_share(places, self.handles, self.targets, self.grid)
        return 1 + FAR_RELUCTANCE[len(self.handles) > 1] * far.view(1, 1, *x.shape[-2:])

    def _lattice(self, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the lattice of a feature map of that size: its places, and how far one moves along."""
        places = lattice(size, self.grid, self.points.device).to(self.points)
        around = places.new_full((), reach(self.body, max(self.config.supervision_radius, 1), self.grid))
        if self.allowed is None:
            allowed = torch.ones_like(places[:, 0])
        else:
            allowed = functional.interpolate(self.allowed, size, mode="bilinear").flatten().to(places)
        return {"handles": self.handles, "places": places, "around": around, "allowed": allowed}

    def optimise(self, start: Tensor, level: Level, budget: int) -> tuple[Tensor, Decoded | None]:
        """Return the bottleneck, [1, C, h, w], after gradient steps until `budget` steps in all or arrival.

        With what is decoded from it, where that is known: no step was needed.
        """
        constants = self._constants(level)
        # Laid out as the gradient is: fused optimisers want that.
        leaf = start.clone(memory_format=torch.contiguous_format).requires_grad_(True)
        tracked = self.settled
        if tracked:
            # Most often they still are where they should be: seeing that takes no gradient.
            decoded = self.unet.decode(level.encoded, leaf.detach(), to_tap=False)
            self._track(decoded.feature, constants)
            self.settled = bool(self.arrived())
            if self.settled:
                return leaf.detach(), decoded
        optimiser = _descent(self.config, leaf)
        arrivals = _Arrivals(AHEAD if leaf.is_cuda else 0)
        arrived = torch.zeros((), dtype=torch.bool, device=leaf.device)
        while len(self.losses) < budget:
            looks = len(self.losses) % self.config.gradient_steps == 0
            follows = looks and bool(self.losses) and not tracked
            tracked = False
            points, loss, gradient = self._descend(follows, level.encoded, leaf.detach(), constants)
            if follows:
                self._move(points)
            if looks:
                arrived = self.arrived()
                arrivals.ask(arrived, len(self.losses), len(self.path))
            if self._stops(arrivals.answer(len(self.losses))):
                return leaf.detach(), None
            leaf.grad = gradient
            before = leaf.detach().clone()
            optimiser.step()
            if arrivals.ahead:
                # Where the answer is still under way: a step after the arrival changes nothing.
                leaf.detach().copy_(torch.where(arrived, before, leaf.detach()))
            self.losses.append(loss.clone())
            self._report(leaf.detach(), level)
        if self._stops(arrivals.answer(len(self.losses), wait=True)):
            return leaf.detach(), None
        if level.last:
            self._track(self.unet.decode(level.encoded, leaf.detach(), to_tap=True).feature, constants)
        return leaf.detach(), None

    def _track(self, feature: Tensor, constants: dict[str, Tensor]) -> None:
        self._move(_follow(self.config, self.grid, feature, self.points, constants["reference"]))

    def _constants(self, level: Level) -> dict[str, Tensor]:
        """Return what stays the same during a level's steps."""
        feature = level.source_decoded.feature
        constants = {
            "targets": self.targets,
            "reference": sample_patches(feature, self.handles, 0, self.grid)[:, :, 0, 0],
        }
        if self.config.supervision == "lattice":
            constants |= self._lattice(tuple(feature.shape[-2:])) | {"source": feature.to(self.points.dtype)}
        elif self.config.template == "original":
            constants["template"] = sample_patches(feature, self.handles, self.config.supervision_radius, self.grid)
        if self.mask is not None:
            constants |= {
                "mask": self.mask,
                "change": level.edited - level.source,
                "epsilon": level.source_decoded.epsilon,
                "sigma": level.edited.new_full((), level.following),
                "step": level.edited.new_full((), level.following - level.sigma),
            }
        return constants

    def _descend(
        self, follows: bool, encoded: Encoded, bottleneck: Tensor, constants: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the points, followed or as they were, the loss, and its gradient in the bottleneck."""
        function = partial(_gradient, self.config, self.grid, follows)
        if isinstance(self.unet, GraphedUNet):
            key = ("gradient", self.config, self.grid, follows)
            return self.unet.replay(key, function, encoded, bottleneck, self.points, constants)
        return function(self.unet, encoded, bottleneck, self.points, constants)

    def _move(self, points: Tensor) -> None:
        self.points = points.clone()
        self.path.append(self.points)

    def arrived(self) -> Tensor:
        """Return whether every point is near its target, a scalar on the device."""
        return ((self.points - self.targets).norm(dim=1) < self.config.stop_distance).all()

    def _stops(self, answer: tuple[int, int] | None) -> bool:
        """Take back what was recorded after the arrival, where there was one."""
        if answer is None:
            return False
        steps, places = answer
        del self.losses[steps:], self.path[places:]
        self.points = self.path[-1]
        self.settled = True
        return True

    def _report(self, bottleneck: Tensor, level: Level) -> None:
        if not self.callback:
            return

        def clean_latent() -> Tensor:
            with torch.no_grad():
                epsilon = self.unet.decode(level.encoded, bottleneck, to_tap=False).epsilon
            return level.edited - level.sigma * epsilon

        points = self.wanted.from_grid(self.points, *self.grid)
        step, total = len(self.losses), self.config.iterations
        self.callback(Progress("optimisation", step, total, clean_latent, points, self.losses[-1]))


class _Arrivals:
    """Whether the points have arrived, asked on the device and read some steps later: no step waits for the answer.

    ahead: how many steps later; 0 for a device that answers at once.
    """

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.asked: deque[tuple[Tensor, torch.cuda.Event | None, tuple[int, int]]] = deque()

    def ask(self, arrived: Tensor, steps: int, places: int) -> None:
        """Ask after `steps` steps, when the path had that many `places`."""
        event = None
        if arrived.is_cuda:
            arrived = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(arrived, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self.asked.append((arrived, event, (steps, places)))

    def answer(self, steps: int, *, wait: bool = False) -> tuple[int, int] | None:
        """Return steps and places of the first question that was answered with yes; None so far."""
        while self.asked and (wait or self.asked[0][2][0] <= steps - self.ahead):
            arrived, event, when = self.asked.popleft()
            if event:
                event.synchronize()
            if arrived:
                return when
        return None


def _descent(config: OptimisationConfig, leaf: Tensor) -> torch.optim.Optimizer:
    if config.descent == "adam":
        return torch.optim.Adam([leaf], lr=config.learning_rate, fused=leaf.is_cuda)
    return NormalisedDescent([leaf], lr=config.learning_rate)


def _follow(config: OptimisationConfig, grid: GridSize, feature: Tensor, points: Tensor, reference: Tensor) -> Tensor:
    return track(feature, reference, points, config.tracking_radius, grid, whole=config.whole_cells)


def _supervision(
    config: OptimisationConfig, grid: GridSize, feature: Tensor, points: Tensor, constants: dict[str, Tensor]
) -> Tensor:
    if config.supervision == "lattice":
        names = ("handles", "targets", "places", "source", "around", "allowed")
        known = (constants[name] for name in names)
        return lattice_loss(feature, points, *known, grid=grid, step_length=config.step_length)
    return motion_loss(
        feature,
        points,
        constants["targets"],
        radius=config.supervision_radius,
        grid=grid,
        step_length=config.step_length,
        stop_distance=config.stop_distance,
        template=constants.get("template"),
    )


@torch.enable_grad()
def _gradient(
    config: OptimisationConfig,
    grid: GridSize,
    follows: bool,
    unet: SplitUNet,
    encoded: Encoded,
    bottleneck: Tensor,
    points: Tensor,
    constants: dict[str, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    leaf = bottleneck.detach().requires_grad_(True)
    decoded = unet.decode(encoded, leaf, to_tap="mask" not in constants)
    if follows:
        points = _follow(config, grid, decoded.feature.detach(), points, constants["reference"])
    loss = _supervision(config, grid, decoded.feature, points, constants)
    if "mask" in constants:
        # Differences first: the latents are large beside what the edit changes.
        change = constants["change"] + (decoded.epsilon - constants["epsilon"]) * constants["step"]
        loss = loss + config.mask_weight * mask_loss(change, constants["mask"], constants["sigma"])
    scale = FLOAT16_LOSS_SCALE if decoded.feature.dtype == torch.float16 else 1.0
    (gradient,) = torch.autograd.grad(loss * scale, [leaf])
    return points.detach(), loss.detach(), gradient.contiguous()

"""The points on their way to their targets, and what is recorded of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .configuration import OptimisationConfig
from .edit import DragEdit
from .errors import DragNoiseError
from .finite import check_finite
from .grid import GridPoints
from .points import DragPoints
from .progress import Callback, Progress

# A step's number, the length of the path and the bottleneck at that time.
Moment = tuple[int, int, Tensor]


@dataclass(eq=False)
class Trace:
    """Where the points are, and were, and the losses of all gradient steps so far.

    wanted: in pixels; placed: the same on the supervision grid. path: [N, 2] on the grid at every tracking, the
    handles first. losses: scalar tensors. tracked: how many gradient steps came before the last tracking.
    settled: whether the points had arrived by the end of the level before. diverged: how many levels ended in a step
    that diverged.
    """

    wanted: DragPoints
    placed: GridPoints
    config: OptimisationConfig
    path: list[Tensor] = field(init=False)
    losses: list[Tensor] = field(default_factory=list)
    tracked: int = 0
    settled: bool = False
    diverged: int = 0

    def __post_init__(self) -> None:
        self.path = [self.placed.handles]

    @property
    def points(self) -> Tensor:
        """Where the handle points are now, [N, 2] on the grid."""
        return self.path[-1]

    def move(self, points: Tensor) -> None:
        """Record where the points have been found. A copy is kept: a graph's results are written over."""
        self.path.append(points.clone())
        self.tracked = len(self.losses)

    def arrived(self) -> Tensor:
        """Return whether every point is near its target, a scalar on the device."""
        return ((self.points - self.placed.targets).norm(dim=1) < self.config.stop_distance).all()

    def moment(self, bottleneck: Tensor) -> Moment:
        """Return now, to come back to."""
        return len(self.losses), len(self.path), bottleneck.detach().clone()

    def back_to(self, moment: Moment) -> Tensor:
        """Forget what came after a moment; return its bottleneck."""
        steps, places, bottleneck = moment
        del self.losses[steps:], self.path[places:]
        self.tracked = steps
        return bottleneck

    def take_back(self, moment: Moment) -> Tensor:
        """As `back_to`, of steps that diverged."""
        self.diverged += 1
        return self.back_to(moment)

    def report(self, callback: Callback | None, denoised: Callable[[], Tensor]) -> None:
        """Tell the callback of the last step."""
        if callback:
            points = self.wanted.from_grid(self.points, *self.placed.grid)
            total = self.config.iterations
            callback(Progress("optimisation", len(self.losses), total, denoised, points, self.losses[-1]))

    def edit(
        self,
        found: list[tuple[Tensor, Tensor]],
        corrections: list[Tensor],
        x: Tensor,
        sigmas: Tensor,
        mask: Tensor | None,
    ) -> DragEdit:
        """Return the edit of the bottlenecks found, each with its level's own, and of the corrections to x's schedule.

        mask: [1, 1, H, W], 1 = may change; None = everything may. Raises DragNoiseError when one of them is not finite,
        or no gradient step stayed finite.
        """
        bottlenecks, originals = (torch.cat(parts).float() for parts in zip(*found, strict=True))
        corrections = torch.cat(corrections or [x[:0]]).float()
        # Checked on the tensors' own device: waking a CPU's threads for it can take longer than ten gradient steps.
        finite = torch.stack([part.isfinite().all() for part in (bottlenecks, originals, corrections)]).all()
        if not finite or (self.diverged and not self.losses):
            check_finite(originals, "the U-Net, in the drag,")
            raise DragNoiseError(
                f"the optimisation diverged at learning rate {self.config.learning_rate}; lower it, or use float32."
            )
        schedule = sigmas.float().cpu()
        return DragEdit(
            bottlenecks=bottlenecks.cpu(),
            originals=originals.cpu(),
            corrections=corrections.cpu(),
            sigmas=schedule[: len(found)].clone(),
            schedule=schedule,
            path=self.wanted.from_grid(torch.stack(self.path), *self.placed.grid).cpu(),
            mask=(x[:0, 0] if mask is None else mask[0]).float().cpu(),
            losses=torch.stack(self.losses).float().cpu() if self.losses else torch.zeros(0),
            points=self.wanted,
            config=self.config,
            diverged=self.diverged,
        )

"""The methods that the benches compare, all behind one call."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ...configuration import PRESETS, OptimisationConfig
from ...errors import DragNoiseError
from ...optimisation import optimise
from ...points import DragPoints
from ...sampling import sample
from ..diffusers_unet import DiffusersSplitUNet


@dataclass(frozen=True, eq=False)
class Task:
    """One drag of one inverted picture.

    latent: the picture, model units, [1, 4, h, w]. noisy: its inversion, sigma space at sigmas[0], [1, 4, h, w].
    sigmas: descending, [k + 1]. points: on the picture. mask: [H, W], 1 = may change; None = everything may.
    """

    unet: DiffusersSplitUNet
    latent: Tensor
    noisy: Tensor
    sigmas: Tensor
    points: DragPoints
    mask: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method made of a task: the clean latent, [1, 4, h, w], and the gradient steps it took.

    ends: where the method believes the handles to be, [N, 2], picture pixels; None when it has no belief.
    """

    latent: Tensor
    iterations: int
    ends: Tensor | None = None


Method = Callable[[Task], Outcome]


def do_nothing(task: Task) -> Outcome:
    """Sample the inverted picture as it is."""
    return Outcome(sample(task.unet, task.noisy, task.sigmas), 0)


def drag_noise(config: OptimisationConfig) -> Method:
    """Return our method with these settings."""

    def method(task: Task) -> Outcome:
        edit = optimise(task.unet, task.noisy, task.sigmas, task.points, mask=task.mask, config=config)
        latent = sample(task.unet, task.noisy, task.sigmas, edit=edit)
        return Outcome(latent, edit.iterations, edit.path[-1])

    return method


METHODS: dict[str, Method] = {
    "nothing": do_nothing,
    "paper": drag_noise(PRESETS["paper"]),
    "default": drag_noise(PRESETS["default"]),
}


def find_method(name: str) -> Method:
    """Return the method of that name. Raises DragNoiseError, listing the names, when there is none."""
    if name not in METHODS:
        raise DragNoiseError(f"there is no method {name!r}; choose one of {', '.join(METHODS)}.")
    return METHODS[name]

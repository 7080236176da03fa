"""The methods that the benches compare, all behind one call."""

from ..configuration import PRESETS, OptimisationConfig, preset
from ..errors import DragNoiseError
from ..optimisation import drag
from ..originals import Original, kept_originals
from ..sampling import sample
from ..warping import warped_picture
from .opponents.drag_diffusion import drag_diffusion
from .opponents.free_drag import FreeDragSettings, free_drag
from .tasks import Method, Outcome, Task


def do_nothing(task: Task) -> Outcome:
    """Sample the inverted picture as it is."""
    return Outcome(sample(task.unet, task.noisy, task.sigmas), 0)


def warp_alone(task: Task) -> Outcome:
    """Warp the picture as `default` does, and ask no model."""
    warped = _warped(task)
    return Outcome(warped[1], 0, originals=(warped, (task.picture, task.latent)))


def _warped(task: Task) -> Original:
    moved = warped_picture(task.picture, task.latent, task.points, task.mask)
    return moved, task.encode(moved)


def drag_noise(config: OptimisationConfig) -> Method:
    """Return our method with these settings."""

    def method(task: Task) -> Outcome:
        warped = _warped(task) if config.warp and task.picture is not None else None
        dragged = drag(
            task.unet, task.noisy, task.sigmas, task.points,
            mask=task.mask, config=config, path=task.path, warped=warped and warped[1],
        )  # fmt: skip
        edit = dragged.edit
        latent = sample(task.unet, dragged.latent, task.sigmas, edit=edit, start=dragged.level)
        kept = () if task.picture is None else kept_originals(edit, (task.picture, task.latent), warped)
        return Outcome(latent, edit.iterations, edit.path[-1], kept)

    return method


METHODS: dict[str, Method] = {
    "nothing": do_nothing,
    "paper": drag_noise(PRESETS["paper"]),
    "default": drag_noise(PRESETS["default"]),
    "warp-alone": warp_alone,
    "drag-diffusion": drag_diffusion(),
    "free-drag": free_drag(),
    # The paper found l by trial, in the unit of Stable Diffusion's features; with l = 1 the demo model hardly drags.
    # 0.15 is the best of 1, 0.5, 0.25, 0.15 and 0.1 on the four example drags, by mean distance to the target.
    "free-drag-fitted": free_drag(FreeDragSettings(expected=0.15)),
}


def find_method(name: str) -> Method:
    """Return the method of that name, or a preset with settings of its own: "default:warp=0:drag_steps=7".

    Raises DragNoiseError, listing the names, when there is none, and for settings that do not exist or fit.
    """
    base, *settings = name.split(":")
    if base not in METHODS or (settings and base not in PRESETS):
        raise DragNoiseError(
            f"there is no method {name!r}; choose one of {', '.join(METHODS)}, with :NAME=VALUE after a preset."
        )
    return drag_noise(preset(base, **dict(map(_setting, settings)))) if settings else METHODS[base]


def _setting(text: str) -> tuple[str, int | float | str]:
    name, _, value = text.partition("=")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value

"""The optimisation's settings and their presets."""

from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import DragNoiseError, quoted

CHOICES = {
    "supervision": ("patches", "dense"),
    "propagation": ("replace", "delta"),
    "descent": ("adam", "normalised"),
}
RANGES = {
    "learning_rate": (1e-6, 10.0),
    "iterations": (1, 10000),
    "drag_steps": (1, 1000),
    "gradient_steps": (1, 100),
    "supervision_radius": (0, 32),
    "tracking_radius": (1, 64),
    "step_length": (0.1, 64.0),
    "stop_distance": (0.5, 64.0),
    "mask_weight": (0.0, 1000.0),
    "free_steps": (0, 1000),
    "background": (0.0, 10.0),
    "warp": (0.0, 1.0),
    "bottleneck_change": (0.0, 100.0),
}


@dataclass(frozen=True)
class OptimisationConfig:
    """Every setting of the optimisation; the defaults are the published code's. Lengths are supervision grid cells,
    half the picture's resolution, so one cell is two pixels. Raises DragNoiseError for a value out of range.

    learning_rate: size of the gradient steps: what "adam" moves every entry of the bottleneck by, or the root mean
        square of a "normalised" step, in root mean squares of the bottleneck itself.
    iterations: gradient steps in all, at most.
    drag_steps: denoising steps whose bottleneck is optimised, each with its share of the iterations.
    gradient_steps: gradient steps between two trackings of the points.
    supervision_radius: r1, of the patches compared; with dense supervision, how far around a handle things move with
        it. Not used around several handles that move as one rigid body, where more moves (`moving_radius`).
    tracking_radius: r2, of the window searched.
    step_length: how far ahead of the point its patch should appear.
    stop_distance: a point nearer to its target than this has arrived.
    mask_weight: lambda of the mask term; 0 turns it off.
    propagation: what later steps get: the optimised bottleneck ("replace") or the difference made ("delta").
    free_steps: how many of the last steps keep their own bottleneck.
    descent: "adam", or "normalised" gradient descent, which does not move what the loss does not depend on.
    background: places that change less than this, in standard deviations of the picture's latent, return to the
        unedited picture, as does everything outside the mask; 0 turns it off.
    warp: how much of its look the edited picture takes from the unedited one, warped along the motion; 0 to 1.
    bottleneck_change: how large the difference made to a bottleneck may become, in root mean squares of that
        bottleneck; 0 sets no limit.
    supervision: what is compared: "patches" at the points, in whole cells (the paper's), or "dense": every place.
    """

    learning_rate: float = 0.01
    iterations: int = 60
    drag_steps: int = 1
    gradient_steps: int = 1
    supervision_radius: int = 1
    tracking_radius: int = 3
    step_length: float = 1.0
    stop_distance: float = 2.0
    mask_weight: float = 0.1
    propagation: str = "replace"
    free_steps: int = 0
    descent: str = "adam"
    background: float = 0.0
    warp: float = 0.0
    bottleneck_change: float = 0.0
    supervision: str = "patches"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise DragNoiseError(f"{name} is {quoted(getattr(self, name))}; choose one of {', '.join(choices)}.")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            whole = isinstance(low, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise DragNoiseError(f"{name} is {quoted(value)}; give a {'whole ' if whole else ''}number.")
            if not low <= value <= high:
                raise DragNoiseError(f"{name} is {value}; choose a value from {low} to {high}.")

    @property
    def compared_steps(self) -> int:
        """Steps that need the unedited picture's features, where its inversion is followed; else 0."""
        return self.drag_steps if self.background or self.warp else 0


PRESETS = {
    "paper": OptimisationConfig(),
    "default": OptimisationConfig(
        learning_rate=0.1,
        iterations=45,
        drag_steps=25,
        gradient_steps=3,
        supervision_radius=3,
        tracking_radius=12,
        step_length=2.0,
        stop_distance=1.0,
        mask_weight=0.0,
        propagation="delta",
        descent="normalised",
        background=0.25,
        warp=1.0,
        bottleneck_change=0.3,
        supervision="dense",
    ),
}


def preset(name: str, **overrides: Any) -> OptimisationConfig:
    """Return the preset `name` ("paper" or "default"), with every override that is not None in place.

    Raises DragNoiseError for an unknown preset or setting and for values out of range.
    """
    if name not in PRESETS:
        raise DragNoiseError(f"preset is {quoted(name)}; choose one of {', '.join(PRESETS)}.")
    unknown = overrides.keys() - {field.name for field in fields(OptimisationConfig)}
    if unknown:
        raise DragNoiseError(f"no setting is called {', '.join(sorted(unknown))}; see OptimisationConfig.")
    return replace(PRESETS[name], **{key: value for key, value in overrides.items() if value is not None})

"""Whole edits through the package: first and later ones, with a new and a kept inversion, eager and as CUDA graphs."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor

from ...configuration import OptimisationConfig, preset
from ...errors import DragNoiseError
from ...inversion import InversionPath
from ...optimisation import drag
from ...points import DragPoints
from ...sampling import sample
from ...schedule import ddim_sigmas
from ...standalone.loaded_model import LoadedModel
from ...standalone.pipeline import PictureRun
from ..speed import LEARNING_RATE
from .meter import GIBIBYTE, Meter, row, tell_iterations
from .random_models import Shape, find_shape, random_model

STRENGTH = 0.7
# As fractions of the picture: handle and target of the first drag, and of a second one on the same picture.
FIRST_DRAG = ((0.4, 0.5), (0.6, 0.5))
SECOND_DRAG = ((0.5, 0.4), (0.5, 0.65))
# Cards sold with 8 and 12 GB have that many GiB, some of which the desktop, the driver and CUDA's context take.
CARDS, TAKEN = (8, 12), 1.0


@dataclass(frozen=True)
class Scenario:
    """One kind of edit. again: it is followed by a second drag on the same inversion."""

    name: str
    preset: str = "paper"
    masked: bool = False
    low_memory: bool = False
    again: bool = False

    def config(self, shape: Shape) -> OptimisationConfig:
        """Return the preset's settings; for `paper` with so low a learning rate that no point arrives early."""
        learning_rate = LEARNING_RATE if self.preset == "paper" else None
        return preset(self.preset, learning_rate=learning_rate, iterations=shape.iterations)

    def facts(self, label: str, shape: Shape, iterations: int) -> dict[str, Any]:
        """Return what is said of a run's iterations."""
        return tell_iterations(label, iterations, self.config(shape).iterations if self.preset == "paper" else None)


# Eager figures only serve for comparison: the first two scenarios are enough.
SCENARIOS = (
    Scenario("edit", again=True),
    Scenario("edit with a mask", masked=True),
    Scenario("edit, preset default", preset="default", again=True),
    Scenario("edit, low memory", low_memory=True),
)
EAGER_SCENARIOS = SCENARIOS[:2]


def measure_package(name: str, acceleration: str, repeats: int, narrow: bool, device: torch.device) -> list[dict]:
    """Return the rows of one shape under one acceleration."""
    shape = find_shape(name, narrow)
    model = random_model(shape, device, acceleration)
    label = f"{name}, {acceleration}"
    free()
    # The base model keeps no graphs: every scenario captures its own, in a copy.
    rows = [_first(f"{label}: edit", "first in the process", replace(model), shape, SCENARIOS[0])]
    for scenario in SCENARIOS if acceleration == "cudagraph" or narrow else EAGER_SCENARIOS:
        rows += _measure_scenario(f"{label}: {scenario.name}", model, shape, scenario, repeats)
    if device.type == "cuda" and acceleration == "cudagraph":
        rows += [
            _on_a_card(card, name, shape, model, scenario)
            for card in CARDS
            for scenario in (SCENARIOS[0], SCENARIOS[-1])
        ]
    return rows


def _first(label: str, state: str, model: LoadedModel, shape: Shape, scenario: Scenario) -> dict:
    meter = Meter(model.unet.device)
    _, iterations = edit(meter, model, shape, scenario)
    return row(label, state, [meter], **scenario.facts(label, shape, iterations))


def _measure_scenario(label: str, model: LoadedModel, shape: Shape, scenario: Scenario, repeats: int) -> list[dict]:
    """Return the rows of one scenario."""
    model = replace(model, low_memory=scenario.low_memory)
    free()
    # Without graphs nothing is captured, so that a model's first edit is like any other.
    rows = [] if model.acceleration == "eager" else [_first(label, "first", model, shape, scenario)]
    later, again = [], []
    for _ in range(repeats):
        later.append(Meter(model.unet.device))
        kept, iterations = edit(later[-1], model, shape, scenario)
        if scenario.again:
            again.append(drag_again(*kept, shape, scenario))
    facts = scenario.facts(label, shape, iterations)
    rows.append(row(label, "later", later, **facts, in_use=in_use(model.unet.device)))
    return [*rows, row(f"{label}: second drag", "later", again, **facts)] if again else rows


def edit(
    meter: Meter, model: LoadedModel, shape: Shape, scenario: Scenario
) -> tuple[tuple[PictureRun, InversionPath], int]:
    """Run a whole edit as `edit_image` does, no pixels kept; return what a second drag needs, and the iterations."""
    sigmas = ddim_sigmas(model.sigmas, shape.steps, STRENGTH).float()
    run = PictureRun(model, random_picture(shape.side), "", sigmas)
    with meter.phase("encode"):
        latent = run.encode()
    with meter.phase("inversion"):
        path = run.invert(latent, scenario.config(shape).compared_steps)
    iterations, clean = _drag_and_sample(meter, run, path, FIRST_DRAG, shape, scenario)
    with meter.phase("decode"):
        run.decode(clean)
    return (run, path), iterations


def drag_again(run: PictureRun, path: InversionPath, shape: Shape, scenario: Scenario) -> Meter:
    """Run another drag on the same inversion; return its figures."""
    meter = Meter(run.model.unet.device)
    _drag_and_sample(meter, run, path, SECOND_DRAG, shape, scenario)
    return meter


def _drag_and_sample(
    meter: Meter, run: PictureRun, path: InversionPath, pair: tuple, shape: Shape, scenario: Scenario
) -> tuple[int, Tensor]:
    """Return the iterations and the edited picture's latent."""
    points, config = points_on(shape.side, [pair]), scenario.config(shape)
    mask = middle_mask(shape.side) if scenario.masked else None
    with meter.phase("optimisation"):
        warped = run.warp(path.latents[-1], points, mask)[1] if config.warp else None
        dragged = drag(
            run.unet, path.latents[0], run.sigmas, points, mask=mask, config=config, path=path, warped=warped
        )
    with meter.phase("sampling"):
        clean = sample(run.unet, dragged.latent, run.sigmas, edit=dragged.edit, start=dragged.level)
    return dragged.edit.iterations, clean


def _on_a_card(card: int, name: str, shape: Shape, model: LoadedModel, scenario: Scenario) -> dict:
    """Return a row: a first edit in the memory that a card of that size has left beside the text encoders."""
    model = replace(model, acceleration="auto", low_memory=scenario.low_memory)
    free()
    label = f"{name}, auto: {scenario.name} on a card of {card} GB, text encoders loaded"
    meter = Meter(model.unet.device)
    torch.cuda.set_per_process_memory_fraction((card - TAKEN) * GIBIBYTE / torch.cuda.mem_get_info()[1])
    try:
        text_encoders = torch.empty(2 * shape.text_parameters, dtype=torch.uint8, device=model.unet.device)
        _, iterations = edit(meter, model, shape, scenario)
        del text_encoders
        return row(label, "first", [meter], **scenario.facts(label, shape, iterations))
    except (torch.OutOfMemoryError, DragNoiseError) as error:
        done = ", ".join(meter.seconds) or "nothing"
        return {"run": label, "state": "does not fit", "remark": f"done: {done}; then {str(error).splitlines()[0]}"}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def points_on(side: int, pairs: Sequence[tuple]) -> DragPoints:
    """Return pairs of fractions as points on a picture of side x side pixels."""
    return DragPoints.from_pairs([tuple((x * side, y * side) for x, y in pair) for pair in pairs], side, side)


def random_picture(side: int) -> Image.Image:
    """Return a picture of noise."""
    values = numpy.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=numpy.uint8)
    return Image.fromarray(values)


def middle_mask(side: int) -> Tensor:
    """Return a mask that lets the middle quarter of the picture change, [side, side]."""
    mask = torch.zeros(side, side)
    mask[side // 4 : side * 3 // 4, side // 4 : side * 3 // 4] = 1
    return mask


def free() -> None:
    """Free what nobody holds any more: graphs go with the model that captured them."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_use(device: torch.device) -> float | None:
    """Return the GPU's memory in use, GiB, including CUDA's context and what the allocator keeps."""
    if device.type != "cuda":
        return None
    free_bytes, total = torch.cuda.mem_get_info(device)
    return (total - free_bytes) / GIBIBYTE

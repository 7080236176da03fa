"""The studies of `dragnoise bench ablation`: what each of them varies about preset `paper`, drag by drag.

A study makes rows of one subject, plain dictionaries that go to the results file as they are. Every study but
`replacement` measures how far the dragged keypoints, as the regressor finds them, end from their targets.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..configuration import PRESETS, OptimisationConfig, preset
from ..demo.networks import KeypointRegressor
from ..demo.scenes import SIZE
from ..demo.scenes.drags import drag_points
from ..edit import DragEdit
from ..inversion import invert
from ..metrics import mean_distance, psnr
from ..optimisation import optimise
from ..points import DragPoints
from ..sampling import sample
from ..schedule import ddim_sigmas, to_variance_preserving
from ..standalone.loaded_model import LoadedModel
from .cut_unet import CutUNet, cut_names
from .methods import drag_noise
from .opponents.drag_diffusion import DragDiffusionSettings, drag_diffusion
from .scene_drags import BenchDrag
from .scene_measures import SceneMeasures
from .tasks import Method, Task

Row = dict[str, Any]
# Of the whole schedule. The published code starts at step 35 of 50 and leaves none of the last ones free.
PUBLISHED_START = 0.7
PUBLISHED_RATE = PRESETS["paper"].learning_rate
STARTS = (0.5, 0.6, 0.7, 0.8, 0.9)
FREE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Plan:
    """How much the studies do. steps: of the whole DDIM schedule. iterations: gradient steps of a drag.

    learning_rates: what the studies `block` and `variable` try; the others keep the published one. budgets: for the
    study `variable`, gradient steps of a drag.
    """

    steps: int = 50
    iterations: int = 60
    learning_rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    budgets: tuple[int, ...] = (5, 10, 20, 40, 80)


class Subject:
    """One drag that goes through the studies; what several of them need is made once and kept.

    Masks are left out: in every study everything may change.
    """

    def __init__(self, model: LoadedModel, regressor: KeypointRegressor, item: BenchDrag, plan: Plan) -> None:
        self.model, self.number, self.drag, self.plan = model, item.index, item.drag, plan
        self.scene = SceneMeasures(item, regressor)
        self.points = DragPoints.from_pairs(drag_points(item.drag), SIZE, SIZE)
        self.handles, self.targets = torch.tensor(self.points.handles), torch.tensor(self.points.targets)
        self.latent = model.encode(item.drag.source_picture())
        self.unet = model.split_unet(item.drag.kind, SIZE, SIZE)
        self._noisy: dict[float, Tensor] = {}
        self._edits: dict[tuple, DragEdit] = {}
        self._measures: dict[tuple, Row] = {}

    def row(self, study: str, variant: Any, published: bool = False, **values: Any) -> Row:
        """Return a row. published: what the paper has. way: mean length of the pairs, in pixels, as distances are.

        learning_rate: None where the study keeps the published one.
        """
        way = mean_distance(self.handles, self.targets)
        place = {"study": study, "variant": variant, "published": published, "learning_rate": None}
        return {**place, "drag": self.number, "kind": self.drag.kind, "way": way, **values}

    def sigmas(self, strength: float) -> Tensor:
        """Return the last part of the schedule, `strength` of it, descending, [k + 1]."""
        return ddim_sigmas(self.model.sigmas, self.plan.steps, strength).float()

    def noisy(self, strength: float) -> Tensor:
        """Return the inverted source, sigma space at the first of `sigmas(strength)`, [1, 4, h, w]."""
        if strength not in self._noisy:
            sigmas, lower = self.sigmas(strength), max((key for key in self._noisy if key < strength), default=None)
            latent = self.latent
            if lower is not None:
                # Go on from there: the lower levels are the same.
                sigmas = sigmas[: len(sigmas) - len(self.sigmas(lower)) + 1]
                latent = to_variance_preserving(self._noisy[lower], float(sigmas[-1]))
            self._noisy[strength] = invert(self.unet, latent, sigmas)
        return self._noisy[strength]

    def cut_unet(self, cut: str, tap: int) -> CutUNet:
        """Return the same U-Net under the same prompt, cut elsewhere."""
        unet = self.unet
        context, added, table = unet.conditions
        settings = {"sigmas": table, "prediction_type": unet.prediction_type}
        return CutUNet(unet.unet, context, cut, tap, added_conditions=added, **settings)

    def config(self, **overrides: Any) -> OptimisationConfig:
        """Return preset `paper` with the plan's iterations."""
        return preset("paper", **{"iterations": self.plan.iterations, **overrides})

    def dragged(
        self,
        strength: float = PUBLISHED_START,
        cut: str = "middle",
        tap: int | None = None,
        learning_rate: float = PUBLISHED_RATE,
    ) -> Row:
        """Return the measures of preset `paper` with another start, cut, tap or learning rate, and its iterations."""
        key = (strength, cut, self.unet.tap if tap is None else tap, learning_rate)
        if key not in self._measures:
            edit = self.edit(*key)
            latent = sample(self.cut_unet(*key[1:3]), self.noisy(strength), self.sigmas(strength), edit=edit)
            self._measures[key] = {**self.measure(latent), "iterations": edit.iterations}
        return self._measures[key]

    def edit(self, strength: float, cut: str, tap: int, learning_rate: float = PUBLISHED_RATE) -> DragEdit:
        """Return that drag's edit.

        At another cut the learning rate is in proportion to the size of the values there: Adam moves every entry by
        about the learning rate, which would be a larger step where values are small.
        """
        key = (strength, cut, tap, learning_rate)
        if key not in self._edits:
            x, sigmas, unet = self.noisy(strength), self.sigmas(strength), self.cut_unet(cut, tap)
            rate = learning_rate
            if cut != "middle":
                first = float(sigmas[0])
                rate *= _size(unet.encode(x, first).bottleneck) / _size(self.unet.encode(x, first).bottleneck)
            self._edits[key] = optimise(unet, x, sigmas, self.points, config=self.config(learning_rate=rate))
        return self._edits[key]

    def measure(self, latent: Tensor) -> Row:
        """Return those of SceneMeasures that the studies need, without the slow ones."""
        picture, scene = self.model.decode(latent), self.scene
        distance = mean_distance(self.locate(picture, self.drag.names), self.targets)
        picture = picture.float().cpu()
        outside = psnr(picture, scene.source, scene.outside) if scene.outside.any() else None
        return {"distance": distance, "truth_psnr": psnr(picture, scene.truth), "outside_psnr": outside}

    @torch.no_grad()
    def locate(self, picture: Tensor, names: tuple[str, ...]) -> Tensor:
        """Return where the regressor finds keypoints in a picture, [1, 3, H, W]: [N, 2], pixels."""
        found = self.scene.regressor.locate(picture, self.drag.kind)
        return torch.stack([found[name][0] for name in names]).float().cpu()


def start_study(subject: Subject) -> Iterator[Row]:
    """Vary the step at which the drag happens and the sampling starts."""
    for strength in STARTS:
        step = len(subject.sigmas(strength)) - 1
        yield subject.row("start", step, strength == PUBLISHED_START, **subject.dragged(strength))


def block_study(subject: Subject) -> Iterator[Row]:
    """Vary the block whose output is optimised; a block behind the published tap is supervised one block later.

    Every block at several learning rates: what suits one block may be too slow for another.
    """
    published = subject.unet.tap
    for index, cut in enumerate(cut_names(subject.unet.unet)):
        tap = max(published, index - 1)
        name = cut if tap == published else f"{cut}, tap {tap}"
        for rate in subject.plan.learning_rates:
            measures = subject.dragged(cut=cut, tap=tap, learning_rate=rate)
            yield subject.row("block", name, cut == "middle", learning_rate=rate, **measures)


def tap_study(subject: Subject) -> Iterator[Row]:
    """Vary the decoder block whose output is supervised and tracked."""
    for tap in range(len(subject.unet.unet.up_blocks)):
        yield subject.row("tap", f"decoder {tap}", tap == subject.unet.tap, **subject.dragged(tap=tap))


def stop_study(subject: Subject) -> Iterator[Row]:
    """Vary how many of the last steps keep their own bottleneck; the optimisation is the same for all."""
    edit = subject.edit(PUBLISHED_START, "middle", subject.unet.tap)
    x, sigmas = subject.noisy(PUBLISHED_START), subject.sigmas(PUBLISHED_START)
    for share in FREE:
        free = round(share * subject.plan.steps)
        if free:
            freed = replace(edit, config=replace(edit.config, free_steps=free))
            measures = subject.measure(sample(subject.unet, x, sigmas, edit=freed))
        else:
            measures = subject.dragged()
        yield subject.row("stop", free, not free, **{**measures, "iterations": edit.iterations})


def variable_study(subject: Subject) -> Iterator[Row]:
    """Optimise the bottleneck (preset `paper`) or the latent (DragDiffusion), for every learning rate and budget.

    tracked: how far the method's own tracking believes the points to be from their targets.
    """
    strength = PUBLISHED_START
    task = Task(subject.unet, subject.latent, subject.noisy(strength), subject.sigmas(strength), subject.points)
    for variable, make in VARIABLES.items():
        for learning_rate in subject.plan.learning_rates:
            measures: Row = {}
            for budget in subject.plan.budgets:
                # A drag that arrived within its budget would do the same with a larger one.
                if not measures or measures["iterations"] >= measures["budget"]:
                    outcome = make(subject, learning_rate, budget)(task)
                    tracked = mean_distance(outcome.ends.cpu(), subject.targets)
                    measures = {**subject.measure(outcome.latent), "iterations": outcome.iterations, "tracked": tracked}
                measures = {**measures, "learning_rate": learning_rate, "budget": budget}
                yield subject.row("variable", variable, **measures)


def _bottleneck(subject: Subject, learning_rate: float, iterations: int) -> Method:
    return drag_noise(subject.config(learning_rate=learning_rate, iterations=iterations))


def _latent(subject: Subject, learning_rate: float, iterations: int) -> Method:
    return drag_diffusion(DragDiffusionSettings(learning_rate=learning_rate, iterations=iterations))


VARIABLES: dict[str, Callable[[Subject, float, int], Method]] = {"bottleneck": _bottleneck, "latent": _latent}


def _size(values: Tensor) -> float:
    """Return the root mean square."""
    return float(values.float().square().mean().sqrt())

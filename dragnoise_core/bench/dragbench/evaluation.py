"""Evaluates a folder of results as DragBench's papers do, and names what cannot be measured for want of a model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ...drawing import to_tensor
from ...errors import DragNoiseError
from ...images import load_image
from ...standalone.loaded_model import LoadedModel
from ...standalone.models import load_model
from .appearance import RADII, drag_accuracy, outside_psnr
from .dift import SEED, discs, distances, features, similarity
from .fidelity import Metric, fidelity, load_lpips
from .format import Sample, find_samples, read_sample
from .run import DRAGGED, read_record

Row = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """A column of the evaluation. per_pair: a row holds a value for each pair of points, else one or None."""

    title: str
    digits: int = 3
    per_pair: bool = False


MEASURES = {
    "distance": Measure("mean distance (DIFT), px", 2, per_pair=True),
    "distance_in_mask": Measure("mean distance, searched in the mask, px", 2, per_pair=True),
    "distance_in_discs": Measure("mean distance, searched in discs, px", 2, per_pair=True),
    "fidelity": Measure("image fidelity (1 - LPIPS)"),
    "fidelity_outside": Measure("image fidelity outside the mask"),
    "fidelity_inside": Measure("image fidelity inside the mask"),
    **{f"dai_{radius}": Measure(f"drag accuracy index, radius {radius} (lower is better)", 4) for radius in RADII},
    "outside_psnr": Measure("PSNR outside the mask, dB", 2),
    "iterations": Measure("iterations", 1),
    "seconds": Measure("seconds", 2),
}


@dataclass
class Evaluation:
    """What was measured and what was not.

    rows: a sample each, its measures by name. unmeasured: why a group of measures is missing. failures: what went
    wrong with a sample. dift: the model whose features gave the mean distance; only distances of one model compare.
    """

    rows: list[Row] = field(default_factory=list)
    dift: str | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def evaluate(
    root: Path, results: Path, *, dift: str | None = None, lpips: str | None = None, device: str | None = None
) -> Evaluation:
    """Measure every result in `results`, <category>/<sample>/dragged_image.png, against its sample in `root`.

    dift: a model as `load_model` takes them. lpips: AlexNet's weights, see `load_lpips`. Every program's results can
    be evaluated; iterations and seconds are known only of ours. Raises DragNoiseError when there are no results.
    """
    folders = find_samples(root)
    evaluation = Evaluation(dift=dift)
    model, metric = _load_models(evaluation, dift, lpips, device)
    # Once for all samples, as published; they come sorted by name, not in the file system's order.
    generator = torch.Generator().manual_seed(SEED)
    for name, folder in tqdm(folders.items(), desc="evaluation"):
        try:
            sample, dragged = read_sample(folder), load_image(results / name / DRAGGED)
        except DragNoiseError as error:
            evaluation.failures[name] = str(error)
            continue
        pictures = _tensors(sample, dragged)
        row = {"name": name, **_appearance(sample, *pictures), **_effort(results / name)}
        try:
            if metric is not None:
                row |= _fidelity(metric, sample, *pictures)
            if model is not None:
                row |= _distances(model, sample, *pictures, generator)
        except DragNoiseError as error:
            evaluation.failures[name] = str(error)
        evaluation.rows.append(row)
    if not evaluation.rows:
        name, reason = next(iter(evaluation.failures.items()))
        raise DragNoiseError(f"no result in {results} can be evaluated, so run a method first ({name}: {reason})")
    return evaluation


def _load_models(
    evaluation: Evaluation, dift: str | None, lpips: str | None, device: str | None
) -> tuple[LoadedModel | None, Metric | None]:
    def attempt(name: str, load: Callable[[], Any]) -> Any:
        try:
            return load()
        except DragNoiseError as error:
            evaluation.unmeasured[name] = str(error)
            return None

    def load_dift() -> LoadedModel:
        if dift is None:
            raise DragNoiseError(
                "no model for DIFT; name one with --dift-model: published figures use Stable Diffusion 2.1, from "
                "a local folder or as stabilityai/stable-diffusion-2-1 from the hub."
            )
        return load_model(dift, device, torch.float32)

    return attempt("mean distance", load_dift), attempt("image fidelity", lambda: load_lpips(lpips))


def _tensors(sample: Sample, dragged: Image.Image) -> tuple[Tensor, Tensor]:
    # Pillow's bilinear filter, as published, for results of another size.
    if dragged.size != sample.picture.size:
        dragged = dragged.resize(sample.picture.size, Image.BILINEAR)
    return to_tensor(sample.picture), to_tensor(dragged)


def _appearance(sample: Sample, source: Tensor, dragged: Tensor) -> Row:
    row = {f"dai_{radius}": drag_accuracy(source, dragged, sample.handles, sample.targets, radius) for radius in RADII}
    return {**row, "outside_psnr": outside_psnr(source, dragged, sample.mask)}


def _effort(result: Path) -> Row:
    record = read_record(result)
    return {} if record is None else {"iterations": record["iterations"], "seconds": sum(record["seconds"].values())}


def _fidelity(metric: Metric, sample: Sample, source: Tensor, dragged: Tensor) -> Row:
    row = {"fidelity": fidelity(metric, source, dragged)}
    if sample.mask is not None:
        inside = sample.mask > 0.5
        row["fidelity_outside"] = fidelity(metric, source, dragged, ~inside)
        row["fidelity_inside"] = fidelity(metric, source, dragged, inside)
    return row


def _distances(model: LoadedModel, sample: Sample, source: Tensor, dragged: Tensor, generator: torch.Generator) -> Row:
    found = [features(model, picture, sample.prompt, generator) for picture in (source, dragged)]
    size = tuple(source.shape[-2:])
    similarities = similarity(*found, sample.handles.to(found[0].device), size).cpu()
    searches = {"distance": None, "distance_in_discs": discs(sample.handles, sample.targets, size)}
    if sample.mask is not None:
        searches["distance_in_mask"] = sample.mask > 0.5
    return {name: distances(similarities, sample.targets, allowed).tolist() for name, allowed in searches.items()}

"""Runs a method over DragBench; resumable, and shared between several processes."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ...configuration import PRESETS
from ...drawing import save_picture, to_tensor
from ...errors import DragNoiseError
from ...schedule import ddim_sigmas
from ...standalone.loaded_model import LoadedModel
from ...standalone.pipeline import PictureRun
from ..methods import find_method
from ..output import write_text
from ..tasks import Task
from .format import digest, read_sample

DRAGGED, RECORD = "dragged_image.png", "drag.json"
VERSION = 1


@dataclass(frozen=True)
class Settings:
    """What determines a result. prompt: for all samples, instead of their own."""

    method: str = "default"
    model: str = "demo"
    prompt: str | None = None
    steps: int = 50
    strength: float = 0.7
    seed: int = 0

    def record(self, folder: Path) -> dict[str, Any]:
        """Return the settings and the sample as they are now, to compare with those of an earlier run."""
        preset = asdict(PRESETS[self.method]) if self.method in PRESETS else None
        return {"version": VERSION, **asdict(self), "preset": preset, "sample": digest(folder)}


def share() -> tuple[int, int, int]:
    """Return this process's rank, the number of processes and its rank on this machine, as torchrun sets them."""
    try:
        alone = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
        rank, count, local = (int(os.environ.get(name, value)) for name, value in alone.items())
    except ValueError as error:
        raise DragNoiseError("RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers; start with torchrun.") from error
    if not 0 <= rank < count or local < 0:
        raise DragNoiseError(f"RANK is {rank} of WORLD_SIZE {count}; start with torchrun, or unset both.")
    return rank, count, local


def unfinished(folders: dict[str, Path], out: Path, settings: Settings, fresh: bool = False) -> dict[str, Path]:
    """Return the samples that have no result of these settings in `out` yet; all of them when `fresh`.

    Raises DragNoiseError when a result of other settings, or of another picture, mask or points, is there.
    """
    if fresh:
        return dict(folders)
    left = {}
    for name, folder in folders.items():
        before, now = read_record(out / name), settings.record(folder)
        if before is None:
            left[name] = folder
        elif before["settings"] != now:
            other = [key for key in {**before["settings"], **now} if before["settings"].get(key) != now.get(key)]
            raise DragNoiseError(
                f"{out / name} was dragged with another {' and '.join(other)}; choose another --out, or give --fresh "
                "to drag everything again."
            )
    return left


def run(model: LoadedModel, folders: dict[str, Path], out: Path, settings: Settings) -> dict[str, str]:
    """Drag every sample and write it to `out`; return what went wrong with those that could not be dragged."""
    failures = {}
    with tqdm(folders.items(), desc=settings.method) as bar:
        for name, folder in bar:
            bar.set_postfix_str(name)
            try:
                _drag(model, folder, out / name, settings)
            except DragNoiseError as error:
                failures[name] = str(error)
                bar.write(f"{name}: {error}", file=sys.stderr)
    return failures


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what was written beside a finished result; None if that is missing or incomplete."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    is_record = isinstance(record, dict) and all(isinstance(record.get(key), dict) for key in ("settings", "seconds"))
    is_whole = is_record and "iterations" in record and (folder / DRAGGED).is_file()
    return record if is_whole else None


def _drag(model: LoadedModel, folder: Path, out: Path, settings: Settings) -> None:
    sample = read_sample(folder)
    # Seeded for every sample, so that several processes draw what one would.
    torch.manual_seed(settings.seed)
    sigmas = ddim_sigmas(model.sigmas, settings.steps, settings.strength).float()
    prompt = sample.prompt if settings.prompt is None else settings.prompt
    picture_run = PictureRun(model, sample.picture, prompt, sigmas)
    with picture_run.phase("inversion"):
        latent = picture_run.encode()
        path = picture_run.invert(latent)
    with picture_run.phase("method"):
        task = Task(
            picture_run.unet, latent, path.latents[0], sigmas, sample.points, sample.mask, path,
            to_tensor(picture_run.fitted), model.encode,
        )  # fmt: skip
        outcome = find_method(settings.method)(task)
    with picture_run.phase("decoding"):
        picture = picture_run.decode(outcome.latent, outcome.originals)
    out.mkdir(parents=True, exist_ok=True)
    # The record says that the picture beside it is finished: it is removed first and written last.
    (out / RECORD).unlink(missing_ok=True)
    save_picture(picture, out / DRAGGED)
    record = {
        "settings": settings.record(folder),
        "iterations": outcome.iterations,
        "ends": None if outcome.ends is None else outcome.ends.tolist(),
        "seconds": picture_run.seconds,
        "device": str(model.unet.device),
    }
    write_text(out / RECORD, json.dumps(record, indent=2))

"""`dragnoise bench scenes`: methods over the seeded drags of the demo scenes, whose truth is rendered."""

import json
import multiprocessing
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn import functional
from tqdm import tqdm

from ..background import keep_pixels
from ..demo.loader import load_keypoint_regressor
from ..demo.scenes import SIZE
from ..demo.scenes.drags import drag_points
from ..drawing import save_picture, to_picture
from ..errors import DragNoiseError
from ..inversion import inversion_path
from ..points import DragPoints
from ..schedule import ddim_sigmas
from ..standalone.models import load_model, usable_device
from .methods import find_method
from .output import say, write_text
from .scene_drags import bench_drag
from .scene_measures import SceneMeasures
from .scene_report import markdown_report, scene_report
from .scene_sheet import picture_path, scene_sheet, sheet_indices
from .tasks import Task

LIMITS = {"seed": (0, 2**32), "count": (1, 100_000), "processes": (1, 64), "side": (64, 1024)}
BASELINE = "nothing"
Row = dict[str, Any]


def run_bench_scenes(options: Namespace) -> None:
    """Run every method on every drag, append a row for each to rows.jsonl, write table, report and contact sheet."""
    for name, (low, high) in LIMITS.items():
        if not low <= getattr(options, name) <= high:
            raise DragNoiseError(f"--{name} is {getattr(options, name)}; choose a number from {low} to {high}.")
    if options.side % 8:
        raise DragNoiseError(f"--side is {options.side}; choose a multiple of 8, an autoencoder's cell.")
    if options.resume and options.out is None:
        raise DragNoiseError("--resume needs the folder to resume from; give --out DIR.")
    # Every method is compared with doing nothing, so that is always run.
    names = list(dict.fromkeys([BASELINE, *options.methods.split(",")]))
    for name in names:
        find_method(name)
    settings = {name: getattr(options, name) for name in ("seed", "processes", "steps", "strength", "side")}
    settings["device"] = str(usable_device(options.device))
    folder = None if options.out is None else Path(options.out)
    shown = sheet_indices(options.count) if folder else []
    rows = _start_rows(folder, options.resume, settings)

    def missing(index: int, name: str) -> bool:
        return (index, name) not in rows or (index in shown and not picture_path(folder, index, name).is_file())

    work = [(index, [name for name in names if missing(index, name)]) for index in range(options.count)]
    with tqdm(total=sum(len(left) for _, left in work), desc="scenes", file=sys.stderr) as bar:
        for row, picture in _results(settings, [(index, left) for index, left in work if left]):
            rows[row["index"], row["method"]] = row
            if folder:
                _keep(folder, row, picture if row["index"] in shown else None)
            bar.update()
    wanted = [rows[index, name] for index in range(options.count) for name in names]
    report = scene_report(wanted, names, settings)
    if folder:
        write_text(folder / "report.json", json.dumps(report, indent=2) + "\n")
        write_text(folder / "table.md", markdown_report(report))
        save_picture(scene_sheet(folder, options.seed, shown, names, wanted), folder / "contact-sheet.png")
    say(json.dumps(report, indent=2) if options.json else markdown_report(report))


class SceneBench:
    """The demo model and everything needed to run methods on drags and to measure their results."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.model = load_model("demo", settings["device"])
        self.regressor = load_keypoint_regressor(settings["device"])
        self.sigmas = ddim_sigmas(self.model.sigmas, settings["steps"], settings["strength"]).float()
        self.warm: set[str] = set()

    def run(self, index: int, names: list[str]) -> Iterator[tuple[Row, Image.Image]]:
        """Run methods on one drag, with one inversion for all; yield a row and the decoded picture of each."""
        item = bench_drag(self.settings["seed"], index)
        measures, side = SceneMeasures(item, self.regressor), self.settings["side"]
        source = item.drag.source_picture(side)
        unet = self.model.split_unet(item.drag.kind, side, side)
        points, mask = DragPoints.from_pairs(drag_points(item.drag), SIZE, SIZE), item.mask()

        def prepare() -> Task:
            latent = self.model.encode(source)
            path = inversion_path(unet, latent, self.sigmas, features=len(self.sigmas) - 1)
            return Task(unet, latent, path.latents[0], self.sigmas, points, mask, path, source, self.model.encode)

        # The first call of a method also sets up memory and kernels, which is not part of what an edit costs.
        cold = [name for name in names if name not in self.warm]
        if cold:
            task = prepare()
            for name in cold:
                find_method(name)(task)
            self.warm.update(cold)
        with self._timed() as inversion:
            task = prepare()
        tags = {"kind": item.drag.kind, "size": item.size, "pairs": item.pairs, "masked": item.masked}
        for name in names:
            with self._timed() as taken:
                outcome = find_method(name)(task)
            picture = self.model.decode(outcome.latent)
            again = [(original, self.model.decode(latent)) for original, latent in outcome.originals]
            picture = keep_pixels(picture, *again)
            if not torch.isfinite(picture).all():
                raise DragNoiseError(f"{name} gave numbers that are not finite on drag {index}; lower its step size.")
            if side != SIZE:
                picture = functional.interpolate(picture, (SIZE, SIZE), mode="bilinear", antialias=True)
            seconds = taken["seconds"] + (0 if name == BASELINE else inversion["seconds"])
            figures = {**measures.of(picture), "iterations": outcome.iterations, "seconds": seconds}
            row = {"index": index, "method": name, **self.settings, **tags, "motion": item.motion, **figures}
            yield row, to_picture(picture)

    @contextmanager
    def _timed(self) -> Iterator[dict[str, float]]:
        taken: dict[str, float] = {}
        self._wait()
        start = time.perf_counter()
        yield taken
        self._wait()
        taken["seconds"] = time.perf_counter() - start

    def _wait(self) -> None:
        if self.model.unet.device.type == "cuda":
            torch.cuda.synchronize(self.model.unet.device)


@lru_cache(maxsize=1)
def _worker_bench(settings: tuple[tuple[str, Any], ...]) -> SceneBench:
    torch.set_num_threads(1)
    return SceneBench(dict(settings))


def _work(settings: dict[str, Any], index: int, names: list[str]) -> list[tuple[Row, Image.Image]]:
    return list(_worker_bench(tuple(settings.items())).run(index, names))


def _results(settings: dict[str, Any], work: list[tuple[int, list[str]]]) -> Iterator[tuple[Row, Image.Image]]:
    if settings["processes"] == 1 and work:
        bench = SceneBench(settings)
        for index, names in work:
            yield from bench.run(index, names)
        return
    pool = ProcessPoolExecutor(settings["processes"], multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([pool.submit(_work, settings, index, names) for index, names in work]):
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_rows(folder: Path | None, resume: bool, settings: dict[str, Any]) -> dict[tuple[int, str], Row]:
    """Return the rows to go on from. An unfinished last line is dropped; rows of other settings are refused."""
    if folder is None:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    path, rows = folder / "rows.jsonl", {}
    if resume and path.is_file():
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            for name, value in settings.items():
                if row.get(name) != value:
                    raise DragNoiseError(
                        f"{path} was made with {name} {row.get(name)}, not {value}; choose another folder or settings."
                    )
            rows[row["index"], row["method"]] = row
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows.values()))
    return rows


def _keep(folder: Path, row: Row, picture: Image.Image | None) -> None:
    if picture is not None:
        path = picture_path(folder, row["index"], row["method"])
        path.parent.mkdir(exist_ok=True)
        save_picture(picture, path)
    with (folder / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")

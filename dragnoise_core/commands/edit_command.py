"""`dragnoise edit` and `dragnoise apply`."""

import json
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from ..configuration import preset
from ..drawing import contact_sheet, draw_drag, save_gif, save_picture
from ..edit import load_edit, save_edit
from ..errors import DragNoiseError
from ..images import load_image, load_mask
from ..points import MAX_TEXT_BYTES, DragPoints, decode_points, parse_drag, parse_pin
from ..progress import Callback, Progress
from ..schedule import ddim_sigmas, scaled_linear_sigmas
from ..standalone.loaded_model import LoadedModel
from ..standalone.models import load_model
from ..standalone.pipeline import EditResult, apply_edit, edit_image
from .process import ProcessRecorder
from .streams import say
from .terminal import Outputs, ProgressBars, check_output, check_picture_output, describe

SHEET_SIDE = 512  # pixels of each picture on a sheet


def run_edit(options: Namespace) -> None:
    """Edit one picture as the options say, write what they ask for, report."""
    source = Path(options.image)
    # What needs no model is checked before one is loaded.
    out = check_picture_output(_default_out(options.out, source), source)
    process = _gif_output(options.process) if options.process else None
    edit_file = check_output(Path(options.save_edit)) if options.save_edit else None
    sheet = check_picture_output(Path(options.sheet)) if options.sheet else None
    outputs = [path.resolve() for path in (out, process, edit_file, sheet) if path]
    if len(set(outputs)) < len(outputs):
        raise DragNoiseError("two of --out, --process, --save-edit and --sheet name the same file; give each its own.")
    _keep_inputs(outputs, (source, options.mask, options.points))
    config = preset(options.preset, iterations=options.iterations, learning_rate=options.lr)
    ddim_sigmas(scaled_linear_sigmas(), options.steps, options.strength)
    picture = load_image(source)
    points = _points(options, picture)
    mask = load_mask(options.mask) if options.mask else None
    model = _load(options)
    recorder = ProcessRecorder(model, picture, points) if process else None
    with ProgressBars() as bars:
        result = edit_image(
            model, picture, points, mask=mask, prompt=options.prompt, config=config,
            steps=options.steps, strength=options.strength, callback=_both(bars, recorder),
        )  # fmt: skip
    outputs = Outputs()
    outputs.write("picture", out, partial(save_picture, result.picture))
    if recorder:
        outputs.write("process", process, lambda path: save_gif(recorder.finish(result.picture), path))
    if edit_file:
        outputs.write("edit", edit_file, partial(save_edit, result.edit))
    if sheet:
        row = [picture, draw_drag(picture, points, mask=mask), result.picture]
        whole = contact_sheet([row], ("before", "points", "after"), SHEET_SIDE)
        outputs.write("sheet", sheet, partial(save_picture, whole))
    _report(options, result, outputs)


def run_apply(options: Namespace) -> None:
    """Repeat a saved edit on its picture."""
    source = Path(options.image)
    out = check_picture_output(_default_out(options.out, source), source)
    _keep_inputs([out.resolve()], (options.edit,))
    edit, picture = load_edit(options.edit), load_image(source)
    model = _load(options)
    with ProgressBars() as bars:
        result = apply_edit(model, picture, edit, prompt=options.prompt, callback=bars)
    outputs = Outputs()
    outputs.write("picture", out, partial(save_picture, result.picture))
    _report(options, result, outputs)


def _load(options: Namespace) -> LoadedModel:
    model = load_model(options.model, options.device, config=options.model_config)
    return replace(model, acceleration=options.acceleration, low_memory=options.low_memory)


def _keep_inputs(outputs: list[Path], inputs: Iterable[str | Path | None]) -> None:
    for path in filter(None, inputs):
        if Path(path).resolve() in outputs:
            raise DragNoiseError(f"{path} would be read and then overwritten; give the output another name.")


def _default_out(out: str | None, source: Path) -> Path:
    return Path(out) if out else Path(f"{source.stem}-dragged.png")


def _gif_output(name: str) -> Path:
    if Path(name).suffix.lower() != ".gif":
        raise DragNoiseError(f"--process {name} is no GIF file; end its name in .gif.")
    return check_output(Path(name))


def _points(options: Namespace, picture: Image.Image) -> DragPoints:
    if bool(options.drag) == bool(options.points):
        raise DragNoiseError('no points, or two kinds of them; give either --drag "x,y:x,y" or --points FILE.')
    pins = [parse_pin(text) for text in options.pin or ()]
    if options.drag:
        drags = [parse_drag(text) for text in options.drag]
        pairs, reaches = [(handle, target) for handle, target, _ in drags], [reach for _, _, reach in drags]
        points = DragPoints.from_pairs(pairs, *picture.size, reaches, pins)
        points.refuse_shares()
        return points
    points = read_points_file(Path(options.points), picture.size)
    return replace(points, pins=(*points.pins, *pins))


def read_points_file(path: Path, size: tuple[int, int]) -> DragPoints:
    """Return the points in a file, scaled to a picture of `size`, (width, height). Raises DragNoiseError."""
    if not path.is_file():
        raise DragNoiseError(f"no points file at {path}; check the name.")
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    return DragPoints.parse(decode_points(content), *size)


def _both(bars: ProgressBars, recorder: ProcessRecorder | None) -> Callback:
    def callback(progress: Progress) -> None:
        bars(progress)
        if recorder:
            recorder(progress)

    return callback


def _report(options: Namespace, result: EditResult, outputs: Outputs) -> None:
    """Say what happened and where the files are. Raises DragNoiseError when one is not where it was asked for."""
    report = result.report()
    if options.json:
        say(json.dumps({**report, "model": options.model, "files": outputs.files}, indent=2))
    else:
        say("\n".join([describe(report), *(f"{name}: {path}" for name, path in outputs.files.items())]))
    outputs.check()

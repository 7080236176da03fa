"""DragBench's samples on disk: <root>/<category>/<sample>/ with a picture, a mask, a prompt and points.

original_image.png; then either drag_instruction.json, {"prompt", "points"}, and mask.png (white may change), or the
published meta_data.pkl, {"prompt", "points", "mask"} (1 may change). Points alternate handle and target, [x, y],
x right, y down, numbering the picture's pixels from 0.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor

from ...drawing import save_picture
from ...errors import DragNoiseError
from ...images import MAX_FILE_BYTES, load_image, load_mask
from ...points import MAX_PAIRS, MAX_TEXT_BYTES, DragPoints
from .restricted_pickle import load_arrays

PICTURE, MASK, INSTRUCTION, PICKLE = "original_image.png", "mask.png", "drag_instruction.json", "meta_data.pkl"


@dataclass(frozen=True, eq=False)
class Sample:
    """One drag of DragBench.

    picture: RGB. handles, targets: pixels' numbers, (x, y), [N, 2], int64. mask: [H, W], 1 = may change, 0 = stays;
    None when none was painted.
    """

    picture: Image.Image
    prompt: str
    handles: Tensor
    targets: Tensor
    mask: Tensor | None

    @property
    def points(self) -> DragPoints:
        """The points in our convention: a pixel's centre is its number + 0.5."""
        pairs = zip((self.handles + 0.5).tolist(), (self.targets + 0.5).tolist(), strict=True)
        return DragPoints.from_pairs(list(pairs), *self.picture.size)


def find_samples(root: Path) -> dict[str, Path]:
    """Return the samples' folders by "category/sample", sorted. Raises DragNoiseError when there is none."""
    if not root.is_dir():
        raise DragNoiseError(f"there is no folder {root}; name the folder that holds DragBench's categories.")
    names = (PICTURE, INSTRUCTION, PICKLE)
    folders = sorted(path for path in root.glob("*/*") if any((path / name).is_file() for name in names))
    if not folders:
        raise DragNoiseError(f"{root} holds no <category>/<sample>/{PICTURE}; name the folder that holds categories.")
    return {f"{folder.parent.name}/{folder.name}": folder for folder in folders}


def digest(folder: Path) -> str:
    """Return a hash of a sample's files: a different hash means a different drag."""
    total = hashlib.sha256()
    for name in (PICTURE, MASK, INSTRUCTION, PICKLE):
        path = folder / name
        if path.is_file() and path.stat().st_size <= MAX_FILE_BYTES:
            total.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def read_sample(folder: Path) -> Sample:
    """Read a sample. Raises DragNoiseError naming the file when one is missing, damaged or unsafe."""
    picture = load_image(folder / PICTURE)
    if (folder / INSTRUCTION).is_file():
        value, name = _read_json(folder / INSTRUCTION), INSTRUCTION
        mask = load_mask(folder / MASK) if (folder / MASK).is_file() else None
    else:
        value, name = _read_pickle(folder / PICKLE), PICKLE
        mask = _mask_of_array(value.get("mask"), folder / PICKLE)
    prompt = value.get("prompt", "")
    if not isinstance(prompt, str):
        raise DragNoiseError(f"{folder / name} has a prompt that is no text; give words.")
    if mask is not None and mask.shape != (picture.height, picture.width):
        raise DragNoiseError(
            f"the mask of {folder} is {mask.shape[1]} x {mask.shape[0]}, the picture {picture.width} x "
            f"{picture.height}; give one of the picture's size."
        )
    if mask is not None:
        mask = (mask > 0.5).float()
        mask = mask if mask.any() else None
    handles, targets = _pixels(value.get("points"), picture, folder / name)
    return Sample(picture, prompt, handles, targets, mask)


def write_sample(
    folder: Path, picture: Image.Image, prompt: str, points: DragPoints, mask: Tensor | None = None
) -> None:
    """Write a sample, its points as the pixels that hold them, into a new folder. mask: [H, W], 1 = may change."""
    folder.mkdir(parents=True, exist_ok=True)
    save_picture(picture, folder / PICTURE)
    (folder / MASK).unlink(missing_ok=True)
    if mask is not None:
        save_picture(Image.fromarray(((mask > 0.5) * 255).byte().numpy()), folder / MASK)
    ends = zip(points.handles, points.targets, strict=True)
    numbers = [[int(min(x, points.width - 1)), int(min(y, points.height - 1))] for pair in ends for x, y in pair]
    (folder / INSTRUCTION).write_text(json.dumps({"prompt": prompt, "points": numbers}, indent=2), encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise DragNoiseError(f"{path} is larger than {MAX_TEXT_BYTES // 1024} KiB; give a prompt and points.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DragNoiseError(f"{path} is no JSON ({error}); give a prompt and points.") from error
    return _dictionary(value, path)


def _read_pickle(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DragNoiseError(f"{path.parent} has neither {INSTRUCTION} nor {PICKLE}; a sample needs one of them.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DragNoiseError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; take the published file.")
    try:
        value = load_arrays(path.read_bytes())
    except DragNoiseError as error:
        raise DragNoiseError(f"{path}: {error}") from error
    return _dictionary(value, path)


def _dictionary(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DragNoiseError(f"{path} holds no dictionary; it needs prompt and points.")
    return value


def _mask_of_array(mask: Any, path: Path) -> Tensor | None:
    if mask is None:
        return None
    if not isinstance(mask, numpy.ndarray) or mask.ndim != 2:
        raise DragNoiseError(f"{path} has a mask that is no array of rows and columns; take the published file.")
    return torch.from_numpy((mask > 0).astype(numpy.float32))


def _pixels(points: Any, picture: Image.Image, path: Path) -> tuple[Tensor, Tensor]:
    is_list = isinstance(points, list) and len(points) <= 2 * MAX_PAIRS
    if not is_list or not all(_is_point(point) for point in points):
        raise DragNoiseError(f"{path} has no list of at most {2 * MAX_PAIRS} points [x, y]; mend its points.")
    try:
        checked = DragPoints.parse(json.dumps({"points": points}), *picture.size)
    except DragNoiseError as error:
        raise DragNoiseError(f"{path}: {error}") from error
    last = torch.tensor(picture.size) - 1
    return tuple(torch.minimum(torch.tensor(ends).long(), last) for ends in (checked.handles, checked.targets))


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, list | tuple) and len(point) == 2 and all(isinstance(value, int | float) for value in point)
    )

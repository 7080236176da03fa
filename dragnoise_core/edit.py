"""DragEdit: what an optimisation found; saved and loaded as safetensors."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .configuration import OptimisationConfig
from .errors import DragNoiseError, quoted
from .points import DragPoints
from .schedule import check_sigmas

FORMAT = "dragnoise-edit"
VERSION = 1
MAX_FILE_BYTES = 512 * 2**20
MAX_ELEMENTS = 2**27
MAX_LEVELS = 1001
TENSORS = {
    "bottlenecks": 4, "originals": 4, "corrections": 4, "sigmas": 1, "schedule": 1, "path": 3, "losses": 1, "mask": 3,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class DragEdit:
    """The optimised bottlenecks of K denoising steps and how they came about. All tensors float32, on the CPU.

    bottlenecks, originals: optimised, and the model's own at the same latent, [K, C, h, w].
    sigmas: the noise level of each, descending, [K]. schedule: all levels of the run, descending, [n + 1].
    corrections: what is added to the denoised latent at the schedule's first M levels, [M, 4, H, W]; M may be 0.
    path: where each handle point was at every tracking, [T, N, 2], picture pixels; its last row is the end.
    losses: of every gradient step, [I]. mask: where the picture may change, 0 to 1 at the latent's size, [1, H, W];
    [0, H, W] where everything may. points: what was asked for. config: the settings.
    diverged: how many levels ended with a gradient step that left the finite numbers and was taken back.
    """

    bottlenecks: Tensor
    originals: Tensor
    corrections: Tensor
    sigmas: Tensor
    schedule: Tensor
    path: Tensor
    losses: Tensor
    mask: Tensor
    points: DragPoints
    config: OptimisationConfig
    diverged: int = 0

    def __post_init__(self) -> None:
        for name, dimensions in TENSORS.items():
            tensor = getattr(self, name)
            # Whoever makes the numbers checks that they are finite: doing so here would wake threads at every copy.
            if tensor.ndim != dimensions or tensor.dtype != torch.float32:
                raise DragNoiseError(
                    f"the edit's {name} are {tensor.dtype} of shape {tuple(tensor.shape)}; "
                    f"float32 with {dimensions} dimensions is needed. Make the edit again."
                )
        consistent = (
            self.bottlenecks.shape == self.originals.shape
            and len(self.bottlenecks) == len(self.sigmas) > 0
            and len(self.schedule) > max(1, len(self.corrections))
            and self.path.shape[1:] == (len(self.points.handles), 2)
            and len(self.path) > 0
            and len(self.mask) <= 1
        )
        if len(self.schedule) > MAX_LEVELS:
            raise DragNoiseError(
                f"the edit's schedule has {len(self.schedule)} levels, over {MAX_LEVELS}; make the edit again."
            )
        check_sigmas(self.schedule)
        if not consistent:
            shapes = {name: tuple(getattr(self, name).shape) for name in TENSORS}
            raise DragNoiseError(f"the edit's parts do not fit together ({shapes}); make the edit again.")

    def on(self, device: torch.device) -> "DragEdit":
        """Return the edit with what the model is given on `device`, so that no step has to transfer it."""
        names = ("bottlenecks", "originals", "corrections")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def iterations(self) -> int:
        """Gradient steps taken."""
        return len(self.losses)

    @property
    def distances(self) -> Tensor:
        """How far each handle ended from its target, [N], picture pixels, by the method's own tracking."""
        return (self.path[-1] - torch.tensor(self.points.targets)).norm(dim=1)

    def report(self) -> dict[str, Any]:
        """Return what happened, ready for JSON. Points in the picture's pixels, by the method's own tracking."""
        ends, distances = self.path[-1].tolist(), self.distances.tolist()
        rows = zip(self.points.handles, self.points.targets, ends, distances, strict=True)
        return {
            "points": [
                {"start": list(start), "target": list(target), "end": end, "distance": distance}
                for start, target, end, distance in rows
            ],
            "iterations": self.iterations,
            "changed": self.iterations > 0,
            "diverged": self.diverged,
        }


def save_edit(edit: DragEdit, path: str | os.PathLike) -> None:
    """Write `edit` as safetensors. The file appears whole or not at all. Raises DragNoiseError when it cannot."""
    tensors = {name: getattr(edit, name).contiguous() for name in TENSORS}
    description = {"version": VERSION, "points": edit.points.to_json(), "config": asdict(edit.config)}
    description["diverged"] = edit.diverged
    description["checksum"] = checksum(description, tensors)
    path = Path(path)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".dragnoise-") as folder:
            temporary = Path(folder) / "edit.safetensors"
            save_file(tensors, temporary, {FORMAT: json.dumps(description)})
            temporary.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DragNoiseError(
            f"cannot write the edit to {path} ({reason}); choose a folder that can be written."
        ) from error


def checksum(description: dict, tensors: dict[str, Tensor]) -> str:
    """Return a SHA-256 of an edit's description and of its tensors' names, shapes and bytes.

    It reveals damage and altered numbers, but not somebody who writes a new checksum as well.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(memoryview(tensor.contiguous().numpy()).cast("B") if tensor.numel() else b"")
    return digest.hexdigest()


def load_edit(path: str | os.PathLike) -> DragEdit:
    """Read an edit that `save_edit` wrote. Nothing in the file is run.

    Raises DragNoiseError when the file is missing, larger than 512 MiB, damaged, altered, or not an edit.
    """
    path = Path(path)
    if not path.is_file():
        raise DragNoiseError(f"no edit file at {path}; check the name.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DragNoiseError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB, no edit is; choose an edit file.")
    try:
        with safe_open(path, framework="pt") as file:
            description = (file.metadata() or {}).get(FORMAT)
            names = set(file.keys())
            if description is None or names | {"mask"} != set(TENSORS):
                raise DragNoiseError(f"{path} is not a saved drag edit; choose a file that this tool saved.")
            for name in names:
                _check_stored(path, name, file.get_slice(name))
            tensors = {name: file.get_tensor(name) for name in names}
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise DragNoiseError(f"{path} holds {name} that are not finite; make the edit again.")
        return _from_description(path, json.loads(description), tensors)
    except DragNoiseError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DragNoiseError(f"{path} is damaged ({error}); save the edit again.") from error


def _check_stored(path: Path, name: str, stored) -> None:
    shape = stored.get_shape()
    elements = 1
    for side in shape:
        elements *= side
    if stored.get_dtype() != "F32" or len(shape) != TENSORS[name] or elements > MAX_ELEMENTS:
        raise DragNoiseError(f"{path} holds {name} as {stored.get_dtype()} {shape}, which no edit has; save it again.")


def _from_description(path: Path, description: dict, tensors: dict[str, Tensor]) -> DragEdit:
    if not isinstance(description, dict):
        raise DragNoiseError(f"{path} is described by {quoted(description)}; save the edit again.")
    if description["version"] != VERSION:
        raise DragNoiseError(
            f"{path} has version {quoted(description['version'])}, not {VERSION}; update or make the edit again."
        )
    # Edits of earlier releases have none.
    said = description.pop("checksum", None)
    if said is not None and said != checksum(description, tensors):
        raise DragNoiseError(
            f"{path} was altered since it was saved: its checksum does not match; save the edit again, or get the file "
            "again from where it came."
        )
    diverged = description.get("diverged", 0)
    if not isinstance(diverged, int) or not 0 <= diverged <= MAX_LEVELS:
        raise DragNoiseError(f"{path} says that {quoted(diverged)} levels diverged; save the edit again.")
    try:
        points, config = DragPoints.from_json(str(description["points"])), _config(description["config"])
        # Edits of version 0.1 have no mask.
        return DragEdit(points=points, config=config, diverged=diverged, **{"mask": torch.zeros(0, 1, 1), **tensors})
    except DragNoiseError as error:
        raise DragNoiseError(f"{path} cannot be used: {error}") from error


def _config(settings: dict) -> OptimisationConfig:
    # Version 0.1 had two settings that are gone and another name for dense; applying an edit needs neither.
    settings = {name: value for name, value in {**settings}.items() if name not in ("template", "identity")}
    if settings.get("supervision") == "lattice":
        settings["supervision"] = "dense"
    return OptimisationConfig(**settings)

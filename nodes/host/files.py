"""Files in the host's folders, and never outside of them."""

import hashlib
import os
from pathlib import Path

import folder_paths

from ...dragnoise_core.errors import DragNoiseError, quoted

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def stored_file(name: str, purpose: str) -> str:
    """Return the path of `name`, "file.ext [input]" or "[output]", inside the host's folders.

    Raises DragNoiseError when it lies outside of them or does not exist.
    """
    plain, folder = folder_paths.annotated_filepath(name)
    path = inside(folder or folder_paths.get_input_directory(), plain, purpose)
    if not os.path.isfile(path):
        raise DragNoiseError(f"the {purpose} {quoted(name)} does not exist; choose it again.")
    return path


def inside(folder: str, name: str, purpose: str) -> str:
    """Return the path of `name` in `folder`. Raises DragNoiseError when that lies outside."""
    folder = os.path.abspath(folder)
    path = os.path.abspath(os.path.join(folder, name))
    if not path.startswith(folder + os.sep):
        raise DragNoiseError(f"the {purpose} {quoted(name)} lies outside the host's folders; choose one inside.")
    return path


def content_hash(path: str | Path) -> str:
    """Return a hash of the file's content, by which the host sees that a file of the same name is another one."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def stored_pictures(name: str) -> list[tuple[Path, Path]]:
    """Return the pictures of the folder `name` in the input folder, by name, each with its points' file beside it.

    Raises DragNoiseError for a folder outside or without pictures, and for pictures without points.
    """
    folder = Path(inside(folder_paths.get_input_directory(), name, "folder"))
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [(file, file.with_suffix(".json")) for file in files if file.suffix.lower() in PICTURES]
    if not found:
        raise DragNoiseError(
            f"the input folder has no pictures in {quoted(name)}; put some there, each with its points: photo.png with "
            "photo.json."
        )
    for file, points in found:
        if not points.is_file():
            raise DragNoiseError(
                f"{file.name} has no points; put them in {points.name} beside it, or take the picture away."
            )
    return found


def stored_edits() -> list[str]:
    names = []
    folders = (("output", folder_paths.get_output_directory()), ("input", folder_paths.get_input_directory()))
    for kind, folder in folders:
        for pattern in ("*.safetensors", "*/*.safetensors"):
            below = (path.relative_to(folder).as_posix() for path in Path(folder).glob(pattern))
            names.extend(f"{name} [{kind}]" for name in sorted(below))
    return names

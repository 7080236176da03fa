"""The doors that a person uses, each with what must hold of whatever comes in."""

import contextlib
import io
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from PIL import Image
from torch.nn import functional
from toy_unet import ToyUNet

from dragnoise_core.commands import edit_command
from dragnoise_core.commands.command_line import main
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.points import DragPoints
from dragnoise_core.schedule import scaled_linear_sigmas
from dragnoise_core.standalone import diffusers_models

LONGEST, MADE, DRAG = 700, "made.png", ("--drag", "1,1:2,2")


@dataclass
class Tally:
    """What came of the cases at one door."""

    taken: int = 0
    refused: int = 0
    slowest: float = 0.0
    sentences: set[str] = field(default_factory=set)


TALLIES: dict[str, Tally] = {}


class Taken(BaseException):
    """The work would begin now."""


def points_string(text: str) -> None:
    """A text in DragNoise Points, typed or linked, on a picture of 64 x 48."""
    with _counted("points strings") as said:
        try:
            DragPoints.parse(text, 64, 48)
        except DragNoiseError as error:
            said.append(str(error))


def points_file(content: bytes) -> None:
    """`dragnoise edit --points FILE`."""
    _command("points files", {"points.json": content}, "edit", "picture.png", "--points", "points.json")


def picture(content: bytes) -> None:
    """`dragnoise edit FILE`."""
    _command("pictures", {"it": content}, "edit", "it", *DRAG)


def mask(content: bytes) -> None:
    """`dragnoise edit --mask FILE`."""
    _command("masks", {"it": content}, "edit", "picture.png", *DRAG, "--mask", "it")


def edit_file(content: bytes) -> None:
    """`dragnoise apply PICTURE FILE`, with a model of a few lines, to the end: an edit may fit a file and no model."""
    _command("edit files", {"it": content}, "apply", "picture.png", "it", load=_toy_model)


def checkpoint(content: bytes) -> None:
    """`dragnoise edit --model FILE`, up to where its tensors would be read."""
    files = {"it.safetensors": content}
    with patch.object(diffusers_models, "_from_hub", _reached):
        _command("checkpoints' headers", files, "edit", "picture.png", *DRAG, "--model", "it.safetensors",
                 load=edit_command._load)  # fmt: skip


def folder(files: dict[str, bytes]) -> None:
    """`dragnoise edit --model FOLDER`, up to where its tensors would be read."""
    files = {f"it/{name}": content for name, content in files.items()}
    files |= {f"it/{part}/model.safetensors": b"" for part in ("unet", "vae", "text_encoder")}
    with patch.object(diffusers_models, "_loaded", _reached):
        _command("models' folders", files, "edit", "picture.png", *DRAG, "--model", "it", load=edit_command._load)


def options(arguments: list[str]) -> None:
    """`dragnoise edit` with points, numbers and names as options."""
    _command("options", {}, "edit", "picture.png", *arguments)


def _reached(*arguments: object) -> None:
    raise Taken


def _toy_model(options: object) -> SimpleNamespace:
    """A LoadedModel of a few lines, whose latents are pictures in small."""
    unet = ToyUNet()
    unet.device = torch.device("cpu")
    return SimpleNamespace(
        unet=unet, sigmas=scaled_linear_sigmas(), native_side=64, low_memory=False,
        encode=lambda picture: functional.pad(functional.avg_pool2d(picture, 8), (0, 0, 0, 0, 0, 1)),
        decode=lambda latent: functional.interpolate(latent[:, :3], scale_factor=8.0),
        split_unet=lambda prompt, width, height: unet, accelerated=lambda network: network,
    )  # fmt: skip


def _command(name: str, files: dict[str, bytes], *arguments: str, load: Callable = _reached) -> None:
    """Run a command on the files. It is refused and leaves them alone, or it ends well, if `load` lets it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Image.new("RGB", (64, 48)).save("picture.png")
        for file, content in files.items():
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_bytes(content)
        before = _files()
        out, err = io.StringIO(), io.StringIO()
        with _counted(name) as said, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with patch.object(edit_command, "_load", load), contextlib.suppress(Taken):
                try:
                    code = main([*arguments, "--device", "cpu", "--out", MADE])
                except SystemExit as ended:
                    code = ended.code
                if code == 0:
                    Path(MADE).unlink()
                else:
                    assert code == 2 and out.getvalue() == ""
                    said.append(err.getvalue().splitlines()[-1])
        assert "Traceback" not in err.getvalue()
        assert _files() == before


def _files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@contextlib.contextmanager
def _counted(name: str) -> Iterator[list[str]]:
    tally, said, start = TALLIES.setdefault(name, Tally()), [], time.perf_counter()
    yield said
    tally.slowest = max(tally.slowest, time.perf_counter() - start)
    tally.taken += not said
    tally.refused += bool(said)
    for sentence in said:
        assert sentence.isprintable() and len(sentence) <= LONGEST and "; " in sentence, sentence
        tally.sentences.add(re.sub(r"'.*?'|\"[^\"]*\"|\(.*\)|[-+.\w]*\d[-+.\w]*", "#", sentence))

"""The doors that a person uses, each with what must hold of whatever comes in."""

import contextlib
import io
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from PIL import Image

from dragnoise_core.commands import edit_command
from dragnoise_core.commands.command_line import main
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.points import DragPoints
from dragnoise_core.standalone import diffusers_models

LONGEST = 700


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
    _command("pictures", {"it": content}, "edit", "it", "--drag", "1,1:2,2")


def mask(content: bytes) -> None:
    """`dragnoise edit --mask FILE`."""
    _command("masks", {"it": content}, "edit", "picture.png", "--drag", "1,1:2,2", "--mask", "it")


def edit_file(content: bytes) -> None:
    """`dragnoise apply PICTURE FILE`."""
    _command("edit files", {"it": content}, "apply", "picture.png", "it")


def checkpoint(content: bytes) -> None:
    """`dragnoise edit --model FILE`, up to where its tensors would be read."""
    files = {"it.safetensors": content}
    with patch.object(diffusers_models, "_from_hub", _reached):
        _command("checkpoints' headers", files, "edit", "picture.png", "--drag", "1,1:2,2", "--model", "it.safetensors",
                 load=edit_command._load)  # fmt: skip


def _reached(*arguments: object) -> None:
    raise Taken


def _command(name: str, files: dict[str, bytes], *arguments: str, load: Callable = _reached) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Image.new("RGB", (64, 48)).save("picture.png")
        for file, content in files.items():
            Path(file).write_bytes(content)
        before = {path: path.read_bytes() for path in Path().rglob("*")}
        out, err = io.StringIO(), io.StringIO()
        with _counted(name) as said, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with patch.object(edit_command, "_load", load), contextlib.suppress(Taken):
                assert main([*arguments, "--device", "cpu"]) == 2
                said.append(err.getvalue().splitlines()[-1])
        assert out.getvalue() == "" and "Traceback" not in err.getvalue()
        assert {path: path.read_bytes() for path in Path().rglob("*")} == before


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

"""The whole way with the model that ships: what was dragged arrives, measured by a network that knows nothing of it."""

import re
from functools import partial

import pytest
from PIL import Image

from dragnoise_core.commands import demo_command
from dragnoise_core.commands.command_line import main
from dragnoise_core.demo.scenes import KINDS


@pytest.fixture(scope="module")
def demo(tmp_path_factory, two_threads):
    """The folder that `dragnoise demo` filled, and what it said; with fewer frames than it takes itself."""
    folder, lines = tmp_path_factory.mktemp("demo") / "out", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_command, "say", lines.append)
        patch.setattr(demo_command, "ProcessRecorder", partial(demo_command.ProcessRecorder, count=6))
        assert main(["demo", "--out", str(folder), "--device", "cpu"]) == 0
    return folder, "\n".join(lines)


def test_every_picture_is_written(demo):
    folder, _ = demo
    for kind in KINDS:
        for name in ("before", "after", "truth"):
            with Image.open(folder / f"{kind}-{name}.png") as picture:
                assert picture.size == (256, 256)
        with Image.open(folder / f"{kind}-process.gif") as gif:
            assert 5 <= gif.n_frames <= 9
    with Image.open(folder / "contact-sheet.png") as sheet:
        assert sheet.width > 4 * 256 and sheet.height > len(KINDS) * 256


def test_every_dragged_keypoint_comes_nearer_to_its_target(demo):
    measured = re.findall(r"measured (before|after): .*?, ([\d.]+) px", demo[1])
    assert [name for name, _ in measured] == ["before", "after"] * len(KINDS)
    distances = [float(distance) for _, distance in measured]
    for kind, before, after in zip(KINDS, distances[::2], distances[1::2], strict=True):
        assert after < 0.5 * before, f"{kind}: {before} px before, {after} px after"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert "cannot be made" in capsys.readouterr().err

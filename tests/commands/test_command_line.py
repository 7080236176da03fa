"""The command line: what it writes, what it says, and how it refuses. Every refusal is one line and exit code 2."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from png_claiming import png_claiming
from safetensors.torch import load_file, save_file

from dragnoise_core.commands import edit_command
from dragnoise_core.commands.command_line import main
from dragnoise_core.edit import load_edit

ROOT = Path(__file__).resolve().parents[2]
DRAG = "30,30:60,40"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder with one picture, 100 x 80."""
    monkeypatch.chdir(tmp_path)
    Image.radial_gradient("L").resize((100, 80)).convert("RGB").save("picture.png")
    return tmp_path


@pytest.fixture
def fast(model_folders):
    return ["--model", str(model_folders["sd"]), "--device", "cpu", "--steps", "6", "--iterations", "4"]


def refused(capsys, place, arguments, *words):
    """Run `arguments` and check: exit code 2, one line with every word, nothing on stdout, no new file."""
    before = set(place.rglob("*"))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    last = err.strip().splitlines()[-1]
    assert last.startswith("dragnoise: ") and "Traceback" not in err and out == ""
    for word in words:
        assert word in last
    assert set(place.rglob("*")) == before


def test_edit_writes_what_it_is_asked_for_and_reports(place, fast, capsys):
    arguments = ["edit", "picture.png", "--drag", DRAG, "--drag", "80,70:70,60", "--out", "after.jpg",
                 "--process", "drag.gif", "--save-edit", "drag.safetensors", "--json", *fast]  # fmt: skip
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert [point["start"] for point in report["points"]] == [[30, 30], [80, 70]]
    assert report["points"][0].keys() == {"start", "target", "end", "distance"}
    assert report["iterations"] == 4 and set(report["seconds"]) == {"inversion", "optimisation", "sampling"}
    assert report["files"] == {"picture": "after.jpg", "process": "drag.gif", "edit": "drag.safetensors"}
    assert " left" in err, "the bars say how long it will still take"
    with Image.open("after.jpg") as picture, Image.open("drag.gif") as gif:
        assert picture.size == (100, 80) and gif.n_frames > 4
    assert load_edit("drag.safetensors").iterations == 4
    for phase in ("inversion", "optimisation"):
        assert phase in err


def test_the_sheet_shows_before_points_and_after(place, fast):
    options = ["--drag", DRAG, "--out", "after.png", "--sheet", "sheet.png"]
    assert main(["edit", "picture.png", *options, *fast]) == 0
    with Image.open("sheet.png") as sheet, Image.open("picture.png") as before, Image.open("after.png") as after:
        thirds = [sheet.crop((16 + 528 * column, 131, 528 + 528 * column, 541)) for column in range(3)]
        small = [third.resize(before.size, Image.BOX) for third in thirds]
        for shown, picture in ((small[0], before), (small[2], after)):
            worst = max(high for _, high in ImageChops.difference(shown, picture.convert("RGB")).getextrema())
            assert worst < 60, "the picture itself, scaled"
        dot = thirds[1].getpixel((int(30 * 5.12), int(30 * 5.12)))
        assert dot[0] > dot[1] + 60, "a red handle where the drag begins"


def test_apply_repeats_a_saved_edit(place, fast, capsys):
    model = fast[:4]
    assert main(["edit", "picture.png", "--drag", DRAG, "--out", "a.png", "--save-edit", "e.safetensors", *fast]) == 0
    assert main(["apply", "picture.png", "e.safetensors", "--out", "b.png", *model]) == 0
    with Image.open("a.png") as a, Image.open("b.png") as b:
        difference = ImageChops.difference(a, b)
    # The last bits: one walk adds up in another order, and random weights decode far from the picture's own pixels,
    # among which the border of those that are kept then moves.
    assert max(high for _, high in difference.getextrema()) <= 4


def test_the_text_report_and_the_default_name(place, fast, capsys):
    assert main(["edit", "picture.png", "--drag", DRAG, *fast]) == 0
    out = capsys.readouterr().out
    assert Path("picture-dragged.png").is_file() and "picture-dragged.png" in out
    assert "30.0,    30.0" in out and "iterations: 4" in out and "inversion" in out


def test_points_from_a_file_and_a_mask_of_another_size(place, fast):
    own = {"version": 1, "width": 200, "height": 160, "pairs": [{"handle": [60, 60], "target": [120, 80]}]}
    Path("points.json").write_text(json.dumps(own))
    Image.new("L", (13, 50), 255).save("mask.png")
    common = ["edit", "picture.png", *fast]
    assert main([*common, "--points", "points.json", "--mask", "mask.png", "--out", "a.png"]) == 0
    assert main([*common, "--drag", DRAG, "--out", "b.png"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_reaches_and_pins_come_from_options_and_pins_add_to_a_file(place, fast):
    save = ["--save-edit", "e.safetensors", "--out", "a.png"]
    drags = ["--drag", f"{DRAG}@12.5", "--drag", "80,70:70,60", "--pin", "10,20"]
    assert main(["edit", "picture.png", *drags, *save, *fast]) == 0
    points = load_edit("e.safetensors").points
    assert points.reaches == (12.5, None) and points.pins == ((10, 20),)
    Path("points.json").write_text(points.to_json())
    assert main(["edit", "picture.png", "--points", "points.json", "--pin", "90,70", *save, *fast]) == 0
    assert load_edit("e.safetensors").points.pins == ((10, 20), (90, 70))


def test_points_on_their_targets_are_said_to_change_nothing(place, fast, capsys):
    assert main(["edit", "picture.png", "--drag", "30,30:30,30", *fast]) == 0
    assert "nothing was changed" in capsys.readouterr().out


@pytest.mark.parametrize("drag", ["0,0:100,80", "99.9,0:0,79.5"])
def test_points_on_the_border_work(place, fast, drag):
    assert main(["edit", "picture.png", "--drag", drag, *fast]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["--drag"]),
        (["--drag", DRAG, "--points", "points.json"], ["either"]),
        (["--drag", "30,30"], ["30,30", "x,y:x,y"]),
        (["--drag", "nan,30:40,40"], ["nan,30:40,40"]),
        (["--drag", "30,30:1e999,40"], ["x,y:x,y"]),
        (["--drag", DRAG, "--drag", "30,30:101,40"], ["target of pair 2", "101", "100 x 80"]),
        (["--drag", DRAG] * 65, ["65", "64"]),
        (["--drag", DRAG, "--steps", "0"], ["steps is 0"]),
        (["--drag", DRAG, "--steps", "1000"], ["steps is 1000"]),
        (["--drag", DRAG, "--strength", "nan"], ["strength is nan"]),
        (["--drag", DRAG, "--strength", "-1"], ["strength is -1"]),
        (["--drag", DRAG, "--strength", "0.001"], ["leaves no step"]),
        (["--drag", DRAG, "--iterations", "0"], ["iterations is 0"]),
        (["--drag", DRAG, "--iterations", "99999999"], ["iterations is 99999999"]),
        (["--drag", DRAG, "--lr", "nan"], ["learning_rate is nan"]),
        (["--drag", DRAG, "--lr", "inf"], ["learning_rate is inf"]),
        (["--drag", DRAG, "--preset", "best"], ["'best'", "paper, default"]),
        (["--drag", DRAG, "--out", "none/after.png"], ["no folder none"]),
        (["--drag", DRAG, "--out", "after.xyz"], ["after.xyz", ".png"]),
        (["--drag", DRAG, "--out", "picture.png"], ["another name"]),
        (["--drag", DRAG, "--process", "drag.mp4"], [".gif"]),
        (["--drag", DRAG, "--process", "none/drag.gif"], ["no folder none"]),
        (["--drag", DRAG, "--save-edit", "."], ["is a folder"]),
        (["--drag", DRAG, "--out", "a.gif", "--process", "a.gif"], ["same file"]),
        (["--drag", DRAG, "--save-edit", "picture.png"], ["picture.png", "another name"]),
        (["--drag", DRAG, "--mask", "mask.gif", "--process", "mask.gif"], ["mask.gif", "another name"]),
        (["--points", "points.json", "--save-edit", "points.json"], ["points.json", "another name"]),
        (["--points", "[1, 2]" * 100], ["too long"]),
        (["--drag", DRAG, "--mask", "none.png"], ["none.png"]),
        (["--drag", DRAG, "--points", "none.json"], ["either"]),
        (["--points", "none.json"], ["none.json"]),
        (["--drag", DRAG, "--device", "nonsense"], ["nonsense"]),
        (["--drag", DRAG, "--model", "none.safetensors"], ["none.safetensors"]),
        (["--drag", DRAG, "--model", "old.ckpt"], ["pickled"]),
    ],
)
def test_impossible_options_are_refused_before_a_model_is_loaded(place, capsys, monkeypatch, options, words):
    monkeypatch.setattr("dragnoise_core.standalone.models._load_demo", lambda *arguments: pytest.fail("loaded"))
    refused(capsys, place, ["edit", "picture.png", *options], *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["not JSON"]),
        ("[]", ["no point pair"]),
        ("[[1, 2], [3, 4], [5, 6]]", ["pair 2 has no target"]),
        ('{"version": 1, "width": 100, "height": 80, "pairs": [{"handle": [1, 2]}]}', ["pair 1 has no target"]),
        ("[[1, NaN], [3, 4]]", ["handle of pair 1", "finite"]),
        ("[[1, 2], [3, 400]]", ["target of pair 1", "outside"]),
        ('{"version": 9, "width": 100, "height": 80, "pairs": []}', ["version 9"]),
        ("[" * 5000, ["not JSON"]),
        (" " * 70000, ["64 KiB"]),
    ],
)
def test_bad_points_files_are_refused(place, capsys, text, words):
    Path("points.json").write_text(text)
    refused(capsys, place, ["edit", "picture.png", "--points", "points.json"], *words)


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
@pytest.mark.parametrize("option", ["--points", "--mask", "--out", "--save-edit", "--model", "--prompt", "--drag"])
def test_what_is_no_text_is_refused(place, capsys, option, text):
    drag = [] if option == "--points" else ["--drag", DRAG]
    refused(capsys, place, ["edit", "picture.png", *drag, option, text], option.strip("-").replace("-", "_"), "no text")
    refused(capsys, place, ["edit", text, "--drag", DRAG], "image", "no text")


def test_a_binary_points_file_is_refused(place, capsys):
    Path("points.json").write_bytes(b"\xff\xfe\x00")
    refused(capsys, place, ["edit", "picture.png", "--points", "points.json"], "as text")


def test_an_empty_mask_is_refused(place, fast, capsys):
    Image.new("L", (100, 80), 0).save("mask.png")
    refused(capsys, place, ["edit", "picture.png", "--drag", DRAG, "--mask", "mask.png", *fast], "mask is empty")


@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "no picture at"), (b"hello", "no picture that"), (png_claiming(60000, 60000), "megapixels")],
    ids=["missing", "text", "bomb"],
)
def test_bad_pictures_are_refused(place, capsys, content, word):
    if content is not None:
        Path("bad.png").write_bytes(content)
    refused(capsys, place, ["edit", "bad.png", "--drag", DRAG], word)
    refused(capsys, place, ["edit", "picture.png", "--drag", DRAG, "--mask", "bad.png"], word)


@pytest.mark.parametrize(
    ("file", "changes", "word"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "FluxPipeline"),
        ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "StableDiffusion3Pipeline"),
        ("scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, "LCMScheduler"),
        ("unet/config.json", {"in_channels": 9}, "inpainting"),
    ],
)
def test_models_that_cannot_be_dragged_are_refused_by_name(place, capsys, model_folders, file, changes, word):
    for part in ("model_index.json", "scheduler/scheduler_config.json", "unet/config.json"):
        target = place / "model" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        values = json.loads((model_folders["sd"] / part).read_text())
        target.write_text(json.dumps({**values, **(changes if part == file else {})}))
    refused(capsys, place, ["edit", "picture.png", "--drag", DRAG, "--model", "model"], word)


@pytest.fixture(scope="module")
def saved(model_folders, tmp_path_factory):
    """A picture and an edit of it."""
    folder = tmp_path_factory.mktemp("saved")
    Image.radial_gradient("L").save(folder / "picture.png")
    options = ["--model", str(model_folders["sd"]), "--steps", "6", "--iterations", "2", "--device", "cpu"]
    edit = ["--save-edit", str(folder / "edit.safetensors"), "--out", str(folder / "out.png")]
    assert main(["edit", str(folder / "picture.png"), "--drag", DRAG, *edit, *options]) == 0
    return folder / "edit.safetensors"


def spoiled(saved, how):
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if how == "truncated":
        return content[: len(content) // 2]
    if how == "pickle":
        return b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."
    if how == "huge header":
        return struct.pack("<Q", 2**62) + content[8:]
    if how == "huge tensor":
        header["path"]["shape"] = [2**40, 1, 2]
    if how == "deep json":
        header["__metadata__"]["dragnoise-edit"] = "[" * 100000
    if how == "other keys":
        header["extra"] = header.pop("losses")
    if how == "other version":
        description = json.loads(header["__metadata__"]["dragnoise-edit"])
        header["__metadata__"]["dragnoise-edit"] = json.dumps({**description, "version": 7})
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize(
    "how", ["truncated", "pickle", "huge header", "huge tensor", "deep json", "other keys", "other version"]
)
def test_edit_files_from_strangers_are_refused(place, capsys, saved, how):
    Path("bad.safetensors").write_bytes(spoiled(saved, how))
    refused(capsys, place, ["apply", "picture.png", "bad.safetensors"], "bad.safetensors")


def test_an_edit_of_not_numbers_is_refused(place, capsys, saved):
    from safetensors import safe_open

    tensors = load_file(saved)
    tensors["bottlenecks"].fill_(torch.nan)
    with safe_open(saved, "pt") as file:
        save_file(tensors, "nan.safetensors", file.metadata())
    refused(capsys, place, ["apply", "picture.png", "nan.safetensors"], "not finite")


def test_an_edit_for_another_model_is_refused_with_both_shapes(place, capsys, saved, model_folders):
    Image.new("RGB", (400, 100)).save("wide.png")
    model = ["--model", str(model_folders["sd"]), "--device", "cpu"]
    refused(capsys, place, ["apply", "wide.png", str(saved), *model], "64 x 8 x 8", "64 x 4 x 16")


def test_ctrl_c_is_exit_code_130_and_leaves_nothing(place, fast, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(edit_command, "edit_image", interrupted)
    before = set(place.rglob("*"))
    arguments = ["edit", "picture.png", "--drag", DRAG, "--out", "a.png", "--process", "a.gif", *fast]
    assert main(arguments) == 130
    assert capsys.readouterr().err.endswith("dragnoise: stopped.\n")
    assert set(place.rglob("*")) == before


def test_a_missing_package_is_a_sentence(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.delitem(sys.modules, "dragnoise_core.commands.terminal")
    monkeypatch.delitem(sys.modules, "dragnoise_core.commands.edit_command")
    refused(capsys, place, ["edit", "picture.png", "--drag", DRAG], "tqdm", "dragnoise[standalone]")


def test_running_out_of_memory_is_a_sentence(place, fast, capsys, monkeypatch):
    def too_much(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(edit_command, "edit_image", too_much)
    refused(capsys, place, ["edit", "picture.png", "--drag", DRAG, *fast], "out of memory")


def run(*arguments, cwd):
    command = [sys.executable, "-m", "dragnoise_core.commands.command_line", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_as_a_process(place):
    for arguments, code, word in (
        (["edit", "none.png", "--drag", DRAG], 2, "dragnoise: no picture at none.png"),
        (["edit"], 2, "usage"),
        (["edit", "picture.png", "--drag", DRAG, "--seed", "1"], 2, "usage"),
    ):
        ended = run(*arguments, cwd=place)
        assert ended.returncode == code and word in ended.stderr and "Traceback" not in ended.stderr
    ended = run("--help", cwd=place)
    assert ended.returncode == 0 and all(command in ended.stdout for command in ("edit", "apply", "demo", "bench"))

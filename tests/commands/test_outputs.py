"""What happens to what was made when it cannot be written or said: the picture is kept, the exit code is true."""

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from dragnoise_core.commands import terminal
from dragnoise_core.commands.command_line import main
from dragnoise_core.edit import load_edit

ROOT = Path(__file__).resolve().parents[2]
DRAG = ["--drag", "30,30:60,40"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder with one picture, and a folder of its own for temporary files."""
    (tmp_path / "work").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    Image.radial_gradient("L").resize((100, 80)).convert("RGB").save("picture.png")
    return tmp_path


def fast_edit(model_folders):
    return ["--model", str(model_folders["sd"]), "--device", "cpu", "--steps", "6", "--iterations", "4"]


@pytest.fixture
def fast(model_folders):
    return fast_edit(model_folders)


def full_disk(monkeypatch, folder):
    """From now on nothing can be made in `folder`, as on a disk that filled up during the work."""
    make = os.mkdir

    def refuse(path, *arguments, **options):
        if Path(path).resolve().parent == folder.resolve():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return make(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refuse)


@pytest.mark.parametrize("name", ["after.png", "after.jpg", "after.bmp"])
def test_on_a_full_disk_the_picture_is_kept_elsewhere_and_said_so(place, fast, capsys, monkeypatch, name):
    arguments = [
        "edit",
        "picture.png",
        *DRAG,
        *fast,
        "--out",
        name,
        "--process",
        "p.gif",
        "--save-edit",
        "e.safetensors",
    ]
    full_disk(monkeypatch, Path.cwd())
    assert main([*arguments, "--json"]) == 2
    out, err = capsys.readouterr()
    files = json.loads(out)["files"]
    last = err.strip().splitlines()[-1]
    for file in files.values():
        assert Path(file).is_relative_to(place / "temporary") and f"is kept in {Path(file).parent}." in last
    with Image.open(files["picture"]) as picture, Image.open(files["process"]) as process:
        assert picture.size == (100, 80) and process.n_frames > 4
    assert load_edit(files["edit"]).iterations == 4
    assert "No space left" in last and os.listdir() == ["picture.png"]


def test_one_output_that_fails_does_not_cost_the_others(place, fast, capsys, monkeypatch):
    (Path.cwd() / "other").mkdir()
    full_disk(monkeypatch, Path("other"))
    arguments = ["edit", "picture.png", *DRAG, *fast, "--out", "after.png", "--process", "other/p.gif"]
    assert main([*arguments, "--save-edit", "e.safetensors"]) == 2
    assert Path("after.png").is_file() and Path("e.safetensors").is_file()
    assert "What was made is kept in" in capsys.readouterr().err


def test_a_picture_that_the_format_cannot_hold_is_kept_as_another(place, monkeypatch):
    outputs = terminal.Outputs()

    def write(path):
        from dragnoise_core.drawing import save_picture

        save_picture(Image.new("RGB", (20000, 8)), path)

    outputs.write("picture", Path("wide.webp"), write)
    with Image.open(outputs.files["picture"]) as kept:
        assert kept.size == (20000, 8) and kept.format == "PNG"
    with pytest.raises(terminal.DragNoiseError, match="cannot write wide.webp .* What was made is kept in"):
        outputs.check()


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(place, capsys, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("dragnoise_core.standalone.models._load_demo", lambda *arguments: pytest.fail("loaded"))
    assert main(["edit", "picture.png", *DRAG]) == 2
    assert "cannot be written (Read-only file system)" in capsys.readouterr().err


FOREIGN, NO_TEXT = "\u65e5\u672c-\u00fc\x1b[31m.png", os.fsdecode(b"caf\xe9.png")
SHELLS = ("| true", "2>&1 | true", ">&-", "2>&-", ">&- 2>&-", "2>/dev/full")
ENCODINGS = ("ascii", "cp1252", "utf-8")
# What the shell does with the output, how the console is encoded, and the picture's name.
RUNS = [
    *((shell, "utf-8", "after.png") for shell in (*SHELLS, ">/dev/full")),
    *(("", encoding, FOREIGN) for encoding in ENCODINGS),
    ("", "utf-8", NO_TEXT),
]


@pytest.fixture(scope="module")
def runs(model_folders, tmp_path_factory):
    """An edit by the command in a process of its own for each of RUNS, two at a time."""

    def run(shell, encoding, name):
        place = tmp_path_factory.mktemp("run")
        Image.radial_gradient("L").resize((100, 80)).convert("RGB").save(place / "picture.png")
        command = [sys.executable, "-m", "dragnoise_core.commands.command_line", "edit", "picture.png", *DRAG]
        command += [*fast_edit(model_folders), "--out", name]
        environment = {
            "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(place), "PYTHONIOENCODING": encoding,
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        script = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "bash"]
        ended = subprocess.run([*script, *command], env=environment, cwd=place, capture_output=True, timeout=240)
        with Image.open(place / name) as picture:
            assert picture.size == (100, 80)
        assert b"Traceback" not in ended.stderr and b"Exception ignored" not in ended.stderr
        return ended

    with ThreadPoolExecutor(2) as pool:
        yield {case: pool.submit(run, *case) for case in RUNS}


@pytest.mark.parametrize("shell", SHELLS)
def test_nobody_needs_to_read_for_the_picture_to_be_made(runs, shell):
    assert runs[shell, "utf-8", "after.png"].result().returncode == 0


def test_a_report_that_cannot_be_written_is_an_error_and_the_picture_is_there(runs):
    ended = runs[">/dev/full", "utf-8", "after.png"].result()
    assert ended.returncode == 2 and b"the report cannot be written (No space left on device)" in ended.stderr


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_console_of_another_encoding(runs, encoding):
    ended = runs["", encoding, FOREIGN].result()
    assert ended.returncode == 0 and b"\x1b[31m" not in ended.stdout and b"picture: " in ended.stdout


def test_a_name_that_is_no_text(runs):
    ended = runs["", "utf-8", NO_TEXT].result()
    assert ended.returncode == 0 and b"caf\\udce9.png" in ended.stdout


@pytest.mark.parametrize("argument", ["--\x1b[31mred", "\ud800", "x" * 60000])
def test_arguments_are_quoted_bounded_and_printable(argument, capsys):
    for arguments in (["edit", "p.png", argument], [argument], ["edit", "p.png", "--seed", argument]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert ended.value.code == 2 and last.isprintable() and len(last) < 700

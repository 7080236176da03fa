"""`make comfy` on a stand-in for ComfyUI: linked, started with its Python, and nothing there is ever replaced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def comfy(tmp_path):
    """A folder that looks like ComfyUI and whose main.py says what it was started with."""
    for name in ("comfy", "custom_nodes"):
        (tmp_path / name).mkdir()
    (tmp_path / "comfy" / "samplers.py").touch()
    (tmp_path / "main.py").write_text("import os, sys\nprint('started in', os.getcwd(), sys.argv[1:])\n")
    return tmp_path


def start(comfy, *options):
    environment = {**os.environ, "COMFYUI_PATH": str(comfy), "COMFYUI_PYTHON": sys.executable}
    command = [sys.executable, ROOT / ".ci" / "start_comfy.py", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_it_links_starts_and_says_what_to_open(comfy):
    for _ in range(2):
        result = start(comfy, "--cpu", "--port", "8200")
        assert result.returncode == 0, result.stderr
        assert (comfy / "custom_nodes" / "dragnoise").resolve() == ROOT
        assert f"started in {comfy} ['--cpu', '--port', '8200']" in result.stdout
        workflow = result.stdout.partition("dragnoise > ")[2].partition(",")[0]
        assert (ROOT / "example_workflows" / f"{workflow}.json").exists()


def test_another_pack_of_that_name_stays(comfy):
    other = comfy / "custom_nodes" / "dragnoise"
    other.mkdir()
    (other / "theirs.py").touch()
    result = start(comfy)
    assert result.returncode != 0
    assert f"{other} is there already" in result.stderr
    assert (other / "theirs.py").exists() and not other.is_symlink()

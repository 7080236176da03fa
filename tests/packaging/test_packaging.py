"""What the registry, the host's help panel and its template browser need to find in this folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
import tomllib
from PIL import Image

from dragnoise_core.configuration import PRESETS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMFY = PROJECT["tool"]["comfy"]
INTERFACE = json.loads((ROOT / "tests" / "host" / "node_interface.json").read_text())
HELP = ROOT / "js" / "docs"
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
PICTURE_BYTES = 100_000


def test_the_registrys_fields():
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,98}", PROJECT["project"]["name"])
    assert "comfyui" not in PROJECT["project"]["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["project"]["version"])
    assert PROJECT["project"]["urls"]["Repository"].startswith("https://")
    assert COMFY["PublisherId"] and COMFY["DisplayName"]
    assert re.fullmatch(r">=\d+\.\d+\.\d+", COMFY["requires-comfyui"])


def test_the_icon():
    path = ROOT / COMFY["Icon"].partition("/main/")[2]
    with Image.open(path) as icon:
        assert icon.width == icon.height <= 400


def test_the_browsers_folder_is_named_in_one_place():
    assert "web" not in COMFY, "the host would load every script twice"
    assert (ROOT / re.search(r'WEB_DIRECTORY = "(.+)"', (ROOT / "__init__.py").read_text())[1]).is_dir()


def test_the_host_is_asked_to_install_nothing():
    assert not (ROOT / "requirements.txt").exists()
    assert not (ROOT / "install.py").exists()


def listed(*options):
    result = subprocess.run(["git", "ls-files", *options], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        pytest.skip("not a git checkout")
    return set(result.stdout.splitlines())


def test_the_archive_holds_the_pack_and_nothing_else():
    archive = listed() - listed("--cached", "--ignored", "--exclude-from=.comfyignore")
    folders = {name.partition("/")[0] for name in archive if "/" in name}
    assert folders == {"dragnoise_core", "example_workflows", "js", "nodes"}
    assert {"__init__.py", "pyproject.toml", "LICENSE", "README.md"} <= archive
    assert any(name.startswith(COMFY["includes"][0]) for name in archive)


def test_the_wheel_carries_the_picker(tmp_path):
    """Built from what git tracks and unpacked elsewhere, the command finds the browser's files."""
    source = tmp_path / "source"
    for name in listed("--cached", "--others", "--exclude-standard"):
        if not name.startswith(("tests/", "docs/", "example_workflows/", "dragnoise_core/demo/weights/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    look = "from dragnoise_core.commands import pick_server as s; from PIL import Image; "
    look += "print(s.picker_folder(), *s.page_files(Image.new('RGB', (1, 1))))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    said = subprocess.check_output([sys.executable, "-c", look], cwd=tmp_path, env=environment, text=True)
    folder, *files = said.split()
    assert Path(folder).is_relative_to(tmp_path / "installed")
    assert {"page.html", "page.js", "point_picker/view/point_picker.js", "point_picker/model/commands.js"} <= set(files)


def test_every_node_has_a_help_page_and_every_page_its_node():
    assert {path.stem for path in HELP.glob("*.md")} == set(INTERFACE)


@pytest.mark.parametrize("node", INTERFACE)
def test_a_help_page_explains_its_node(node):
    text = (HELP / f"{node}.md").read_text()
    assert "## When to use" in text
    explained = set(re.findall(r"`([^`]+)`", "".join(line.split("|")[1] for line in text.splitlines() if "|" in line)))
    names = {*INTERFACE[node]["inputs"], *INTERFACE[node]["output_names"]}
    assert names <= explained, f"not explained: {names - explained}"
    assert explained <= names, f"no such input or output: {explained - names}"
    for picture in re.findall(r"!\[.*?\]\((.+?)\)", text):
        assert (HELP / picture).stat().st_size < PICTURE_BYTES


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_its_picture_and_known_nodes(path):
    picture = path.with_suffix(".jpg")
    assert picture.stat().st_size < PICTURE_BYTES
    with Image.open(picture) as opened:
        assert opened.format == "JPEG"
    types = {node["type"] for node in json.loads(path.read_text())["nodes"]}
    assert {name for name in types if name.startswith("DragNoise")} <= set(INTERFACE)


def test_no_picture_is_left_over():
    pictures = {path.stem for path in (ROOT / "example_workflows").glob("*.jpg")}
    assert pictures == {path.stem for path in WORKFLOWS} and WORKFLOWS
    linked = re.findall(r"!\[.*?\]\((.+?)\)", "".join(path.read_text() for path in HELP.glob("*.md")))
    assert {path.name for path in HELP.glob("*.jpg")} == set(linked)


def test_the_workflow_with_settings_shows_the_default_preset_but_for_one():
    workflow = json.loads((ROOT / "example_workflows" / "05_with_mask.json").read_text(encoding="utf-8"))
    (node,) = (node for node in workflow["nodes"] if node["type"] == "DragNoiseSettings")
    names = [entry["name"] for entry in node["inputs"]]
    shown = dict(zip(names, node["widgets_values"], strict=True))
    assert shown == {"preset": "custom", **asdict(PRESETS["default"]), "mask_weight": 5}

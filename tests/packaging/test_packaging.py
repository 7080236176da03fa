"""What the registry, the host's help panel and its template browser need to find in this folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
import tomllib
from PIL import Image

from dragnoise_core.configuration import PRESETS

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / ".ci"))
import release  # noqa: E402

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


def test_the_icon_is_a_small_square_and_the_banner_21_to_9():
    icon, banner = (ROOT / COMFY[name].partition("/main/")[2] for name in ("Icon", "Banner"))
    with Image.open(icon) as picture:
        assert picture.width == picture.height <= 400
    with Image.open(banner) as picture:
        assert picture.width * 9 == picture.height * 21


def test_the_browsers_folder_is_named_in_one_place():
    assert "web" not in COMFY, "the host would load every script twice"
    assert (ROOT / re.search(r'WEB_DIRECTORY = "(.+)"', (ROOT / "__init__.py").read_text())[1]).is_dir()


def test_the_host_is_asked_to_install_nothing():
    assert not (ROOT / "requirements.txt").exists()
    assert not (ROOT / "install.py").exists()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The folder that the registry's archive becomes when it is installed."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("archive")
    release.build_archive(ROOT, folder)
    return folder


def test_the_archive_holds_the_pack_and_nothing_else(archive):
    names = {str(path.relative_to(archive)) for path in archive.rglob("*") if path.is_file()}
    assert {name.partition("/")[0] for name in names if "/" in name} == {
        "dragnoise_core", "example_workflows", "js", "locales", "nodes"
    } & {path.name for path in ROOT.iterdir()}  # fmt: skip
    assert {"__init__.py", "pyproject.toml", "LICENSE", "README.md"} <= names
    assert any(name.startswith(COMFY["includes"][0]) for name in names)
    assert not any(name.startswith(("dragnoise_core/bench", "dragnoise_core/demo/training")) for name in names)


def test_a_page_of_the_archive_links_to_addresses_or_into_the_archive(archive):
    for page in archive.rglob("*.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            target, _, _ = link.partition("#")
            assert "://" in target or not target or (page.parent / target).exists(), f"{page.name}: {link}"
    readme = (archive / "README.md").read_text(encoding="utf-8")
    repository = PROJECT["project"]["urls"]["Repository"]
    assert f"]({repository}/blob/main/docs/method.md)" in readme
    assert "](https://raw.githubusercontent.com/" in readme


def test_where_the_benches_are_left_out_the_command_line_says_so(archive, tmp_path):
    # Without site: an editable installation would find the benches in this checkout.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(archive), sysconfig.get_path("purelib")])}
    for measurement in ("speed", "scenes"):
        command = [sys.executable, "-S", "-m", "dragnoise_core.commands.command_line", "bench", measurement]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 2 and not done.stdout
        assert done.stderr.count("\n") == 1 and "run them from a checkout of the repository" in done.stderr


def test_a_library_keeps_its_name_beside_a_folder_of_tests():
    import packaging.tags

    assert not Path(packaging.tags.__file__).is_relative_to(ROOT / "tests")


@pytest.fixture
def checkout(tmp_path):
    """A small pack that lacks nothing, in a git repository; a function that changes a file of it and commits."""

    def write(name="README.md", text="[Docs](docs/page.md) and ![a picture](picture.png)\n", *tags):
        (tmp_path / name).write_text(text)
        for arguments in (["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "x"], *(["tag", tag] for tag in tags)):
            author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
            subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True)
        return release.problems(tmp_path)

    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    project = (
        '[project]\nversion = "1.2.0"\n[project.urls]\nRepository = "https://github.com/us/it"\n'
        "[tool.comfy]\nincludes = []\n"
    )
    (tmp_path / "pyproject.toml").write_text(project)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.0\n\n- New.\n\n## 1.1.0\n")
    (tmp_path / ".comfyignore").write_text("/docs/\n")
    return write


def test_a_release_that_lacks_nothing_may_go(checkout):
    assert checkout() == []
    assert checkout("README.md", "changed", "v1.2.0") == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("pyproject.toml", '[project]\nversion = "1.2.0"\n[tool.comfy]\nincludes = []\nPublisherId = "your-publisher-id"\n'), "line 5: replace your-publisher-id"),
        (("CHANGELOG.md", "# Changelog\n\n## 1.1.0\n"), "begins with 1.1.0, pyproject.toml has version 1.2.0"),
        (("README.md", "changed", "v1.3.0"), "has the tag v1.3.0; version 1.2.0 needs v1.2.0"),
        (("weights", "x" * 25_000_001), "the archive holds 25.0 MB"),
    ],
)  # fmt: skip
def test_a_release_that_lacks_something_is_refused(checkout, change, problem):
    (found,) = checkout(*change)
    assert problem in found


def test_a_version_is_released_once(checkout):
    checkout("README.md", "released", "v1.2.0")
    (found,) = checkout("README.md", "changed later")
    assert "the tag v1.2.0 is on another commit; raise the version" in found


def test_this_checkout_lacks_only_what_a_publisher_fills_in():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    others = [
        line for line in release.problems(ROOT) if "your-publisher-id" not in line and "on another commit" not in line
    ]
    assert not others
    tracked = subprocess.run(
        ["git", "grep", "-l", "your-publisher-id"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert {name for name in tracked if not name.startswith(("tests/", ".ci/"))} <= {"pyproject.toml"}


def test_the_registrys_page_gets_addresses_for_links():
    page = "[a](docs/a.md#b) ![c](.github/c.jpg) [d](#e) [f](https://g.h/i)"
    assert release.absolute_links(page, "https://github.com/us/it") == (
        "[a](https://github.com/us/it/blob/main/docs/a.md#b) "
        "![c](https://raw.githubusercontent.com/us/it/main/.github/c.jpg) [d](#e) [f](https://g.h/i)"
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel becomes, built from what git tracks, without the weights."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in tracked.stdout.splitlines():
        if not name.startswith(("tests/", "docs/", "example_workflows/", "dragnoise_core/demo/weights/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_wheel_carries_the_picker(installed, tmp_path):
    look = "from dragnoise_core.commands import pick_server as s; from PIL import Image; "
    look += "print(s.picker_folder(), *s.page_files(Image.new('RGB', (1, 1))))"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    said = subprocess.check_output([sys.executable, "-c", look], cwd=tmp_path, env=environment, text=True)
    folder, *files = said.split()
    assert Path(folder).is_relative_to(installed)
    assert {"page.html", "page.js", "point_picker/view/point_picker.js", "point_picker/model/commands.js"} <= set(files)


def test_the_wheel_leaves_out_benches_and_training(installed):
    def modules(folder):
        return {str(path.relative_to(folder)) for path in (folder / "dragnoise_core").rglob("*.py")}

    left_out = {name.split("/")[1] for name in modules(ROOT) - modules(installed) if "training" not in name}
    assert left_out == {"bench"}
    assert not (installed / "dragnoise_core" / "demo" / "training").exists()


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

"""`dragnoise pick` as a person uses it: the command in a terminal, its page in the browser."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial

import pytest
from conftest import ROOT
from picker_page import PickerPage
from PIL import Image

from dragnoise_core.commands.pick_command import wait_for_points
from dragnoise_core.commands.pick_server import PickServer
from dragnoise_core.errors import DragNoiseError


@pytest.fixture
def pick(tmp_path, monkeypatch):
    """Start the command on a picture of 96 x 64; returns its process and the address that it says."""
    Image.radial_gradient("L").resize((96, 64)).save(tmp_path / "picture.png")
    monkeypatch.setenv("BROWSER", "true")  # no browser opens by itself
    started = []

    def start(*options):
        command = [sys.executable, "-m", "dragnoise_core.commands.command_line", "pick", str(tmp_path / "picture.png")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # A shell's background jobs, and so these tests among them, are told to ignore Ctrl+C.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen([*command, *options], cwd=ROOT, preexec_fn=heed, **pipes)
        started.append(process)
        line = process.stderr.readline()
        return process, next(word for word in line.split() if word.startswith("http://127.0.0.1:"))

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 900, "height": 700})
    page = PickerPage(context.new_page())
    yield page
    context.close()
    assert not page.errors


def opened(page, url):
    page.open(url, picture=None)
    page.page.wait_for_function("() => picker.stage.picture !== null")
    return page


def test_done_prints_the_points_and_ends(pick, page):
    process, url = pick()
    opened(page, url)
    page.drag((20, 20), (60, 30))
    page.press("r")
    page.keyboard.down("Shift")
    page.click(80, 50)
    page.keyboard.up("Shift")
    page.button("Done").click()
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    points = json.loads(out)
    assert (points["width"], points["height"]) == (96, 64)
    assert [round(value) for value in points["pairs"][0]["target"]] == [60, 30]
    assert points["pairs"][0]["reach"] == 6.4 and len(points["pins"]) == 1
    page.page.get_by_text("Done. You can close this page.").wait_for()


def test_by_keyboard_alone_from_points_in_a_file(pick, page, tmp_path):
    pair = {"handle": [10, 10], "target": [20, 10]}
    file = tmp_path / "points.json"
    file.write_text(json.dumps({"version": 1, "width": 96, "height": 64, "pairs": [pair]}))
    process, url = pick("--points", str(file))
    opened(page, url)
    page.page.wait_for_function("() => picker.model.state.pairs.length === 1")
    page.press("Tab", "ArrowRight", "Control+Enter")
    out, _ = process.communicate(timeout=10)
    assert json.loads(out)["pairs"] == [{"handle": [11, 10], "target": [20, 10]}]


def test_points_that_are_not_whole_are_said_and_the_page_goes_on(pick, page):
    process, url = pick()
    opened(page, url)
    page.button("Done").click()
    page.page.wait_for_function("() => document.querySelector('[role=status]').textContent.includes('no point pair')")
    assert process.poll() is None
    # The browser itself notes the refusal's status on its console.
    page.errors = [error for error in page.errors if "400" not in error]


def test_reloading_goes_on_and_closing_the_page_ends_the_command(pick, page):
    process, url = pick()
    opened(page, url)
    page.page.reload()
    page.page.wait_for_function("() => window.picker?.stage.picture")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(4)
    page.page.close()
    out, err = process.communicate(timeout=10)
    assert process.returncode == 2 and out == ""
    assert "closed before Done" in err


def test_there_is_no_mask_to_paint(pick, page):
    _, url = pick()
    opened(page, url)
    page.press("b")
    assert page.button("Erase the mask").count() == 0
    assert page.js("() => picker.settings.tool") == "points"


def test_nothing_is_served_but_the_page_and_its_files(tmp_path):
    with PickServer(Image.new("RGB", (8, 8))) as server:
        root, secret = server.url.rsplit("/", 2)[:2]
        assert urllib.request.urlopen(f"{root}/{secret}/picture.png").read().startswith(b"\x89PNG")
        others = ["", "page.html", "guess/page.html", f"{secret}/../../etc/passwd", f"{secret}/point_picker/host/x.js"]
        for path in others:
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{root}/{path}")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(urllib.request.Request(f"{root}/guess/points", b"[[1,1],[2,2]]"))
        with pytest.raises(urllib.error.HTTPError, match="413"):
            urllib.request.urlopen(urllib.request.Request(f"{root}/{secret}/points", b" " * 70_000))
        assert server.points is None


def test_a_page_that_never_opens_ends_it_too():
    with PickServer(Image.new("RGB", (8, 8))) as server, pytest.raises(DragNoiseError, match="no browser opened"):
        wait_for_points(server, first_visit=0.1)


def test_ctrl_c_ends_it(pick):
    process, _ = pick()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130 and "stopped" in err

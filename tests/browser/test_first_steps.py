"""From the template browser to a dragged picture of one's own, with the mouse and the file chooser alone.

`pytest tests/browser/test_first_steps.py -s` shows the seconds of every step.
"""

import math
import sys
import time

import pytest
import torch
from frontends import find_frontends
from PIL import Image

from dragnoise_core.demo.loader import load_keypoint_regressor
from dragnoise_core.demo.scenes.drags import chosen, drag_points
from dragnoise_core.drawing import to_picture

OWN = chosen("face", 3, {"x": 0.5, "yaw": -0.3, "pitch": 0.0}, {"yaw": 0.2}, ("nose",))
LOGO = ".comfy-menu-button-wrapper, .comfyui-logo-wrapper, button[aria-label=Menu]"
TITLES = {"points": "DragNoise Points", "edit": "DragNoise Edit", "picture": "Your picture", "after": "After",
          "scaled": "Your picture, scaled"}  # fmt: skip
# Where things of a node are on the page. A node that Vue draws has elements; of others the canvas knows.
SLOT = """([title, name, isInput]) => {
    const node = app.graph.nodes.find((node) => node.title === title);
    const slots = isInput ? node.inputs : node.outputs;
    const element = document.querySelector(`[data-node-id="${node.id}"]`);
    if (element) {
        const box = element.getBoundingClientRect();
        const slot = [...element.querySelectorAll(`.lg-slot--${isInput ? "input" : "output"}`)]
            .find((slot) => slot.textContent.trim() === name).getBoundingClientRect();
        return [isInput ? box.left : box.right, slot.top + slot.height / 2];
    }
    const place = node.getConnectionPos(isInput, slots.findIndex((slot) => slot.name === name));
    const ground = app.canvas.canvas.getBoundingClientRect();
    const { scale, offset } = app.canvas.ds;
    return [ground.left, ground.top].map((start, axis) => start + (place[axis] + offset[axis]) * scale);
}"""
UPLOAD = """(title) => {
    const node = app.graph.nodes.find((node) => node.title === title);
    const button = document.querySelector(`[data-node-id="${node.id}"] label:has(input[type=file])`);
    if (button) {
        const { left, top, width, height } = button.getBoundingClientRect();
        return [left + width / 2, top + height / 2];
    }
    const { last_y } = node.widgets.find((widget) => widget.type === "button");
    const ground = app.canvas.canvas.getBoundingClientRect();
    const { scale, offset } = app.canvas.ds;
    const place = [node.pos[0] + node.size[0] / 2, node.pos[1] + last_y + LiteGraph.NODE_WIDGET_HEIGHT / 2];
    return [ground.left, ground.top].map((start, axis) => start + (place[axis] + offset[axis]) * scale);
}"""
SHOWN = """(title) => {
    const node = app.graph.nodes.find((node) => node.title === title);
    const shown = [...node.imgs ?? [], ...document.querySelectorAll(`[data-node-id="${node.id}"] img`)];
    return shown.find((image) => image.complete && image.naturalWidth)?.src ?? "";
}"""


@pytest.fixture
def step():
    """Says how long the step took that ends here."""
    began = time.monotonic()

    def end(name: str) -> None:
        nonlocal began
        now = time.monotonic()
        sys.stdout.write(f"{name}: {now - began:.1f} s\n")
        began = now

    return end


def test_from_the_template_browser_to_a_dragged_picture_of_ones_own(host, step, tmp_path, screenshots):
    if host.frontend not in (find_frontends()[0], find_frontends()[-1]):
        pytest.skip("minutes on a CPU; run with the oldest and the newest frontend")
    own = tmp_path / "own.png"
    to_picture(OWN.source_picture()).save(own)
    Image.new("RGB", (64, 64)).save(host.base / "input" / "example.png")
    handle, target = drag_points(OWN)[0]
    page = host.page

    page.locator(LOGO).first.click()
    page.get_by_role("menuitem", name="Browse Templates").click()
    page.get_by_text("dragnoise", exact=True).first.click()
    page.get_by_text("01_start_here", exact=True).first.click()
    host.wait_for_picker()
    settle(host)
    step("open the example")

    with page.expect_file_chooser() as chooser:
        host.mouse.click(*host.js(UPLOAD, TITLES["picture"]))
    chooser.value.set_files(own)
    page.wait_for_function("() => app.graph.nodes.some((node) => node.widgets?.[0]?.value === 'own.png')")
    step("choose the picture")

    pull(host, ("picture", "IMAGE"), ("points", "image"))
    pull(host, ("scaled", "IMAGE"), ("edit", "image"))
    host.wait_for_picture(256, 256)
    step("link it")

    settle(host)
    host.click(*host.pairs[0][0], button="right")
    assert host.pairs == []
    host.click(*handle)
    host.click(*target)
    (pair,) = host.pairs
    for clicked, meant in zip(pair, (handle, target), strict=True):
        assert clicked == pytest.approx(meant, abs=3)
    step("click handle and target")

    host.js("() => { window.told = 0; app.api.addEventListener('dragnoise_path', () => (told += 1)); }")
    entry = host.run(seconds=500, press=True)
    assert entry["status"]["status_str"] == "success", entry["status"]
    page.wait_for_function(SHOWN, arg=TITLES["after"])
    step("run, until the picture is there")
    if screenshots:
        page.screenshot(path=screenshots / f"first-steps-{host.frontend}.png")

    assert host.js("() => told") > 1, "the path grows while the optimisation runs"
    path = host.js("() => picker.stage.paths")[0]
    assert path[0] == pytest.approx(handle, abs=8) and path[-1] == pytest.approx(target, abs=8)
    shown = page.request.get(host.js(SHOWN, TITLES["after"])).body()
    (tmp_path / "after.png").write_bytes(shown)
    result = Image.open(tmp_path / "after.png").convert("RGB")
    assert result.size == (256, 256)
    assert math.dist(nose(result), target) < math.dist(nose(Image.open(own)), target) / 2


def pull(host, source, target) -> None:
    """Drag a link from an output to an input, each (node, slot)."""
    host.mouse.move(*host.js(SLOT, [TITLES[source[0]], source[1], False]))
    host.mouse.down()
    host.mouse.move(*host.js(SLOT, [TITLES[target[0]], target[1], True]), steps=8)
    host.mouse.up()


def settle(host) -> None:
    """Wait until the picker keeps its place, whatever zoom the page chose."""
    host.settle(host.js("() => app.canvas.ds.scale"))


def nose(picture: Image.Image) -> list[float]:
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(256, 256, 3)
    return load_keypoint_regressor().locate(pixels.permute(2, 0, 1)[None] / 255, "face")["nose"][0].tolist()

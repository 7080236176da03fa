"""What the real ComfyUI sends to Python, and what a run shows in the picker and its neighbours."""

import json
import re

import pytest
from host_page import ROOT, get

# Previews of single steps are larger: eight pixels for each of the latent's.
SHOWN_IN_NODE = """([id, width]) => [
    ...(app.graph.getNodeById(id).imgs ?? []), ...document.querySelectorAll(`[data-node-id="${id}"] img`),
].some((image) => image.naturalWidth === width)"""


def test_the_value_that_reaches_python(host):
    """The overlay that Python draws has its blue target where it was dropped."""
    _, points = host.with_picture()
    preview = host.add("PreviewImage", (950, 120))
    host.link(points, 2, preview, "images")
    host.drag((20, 48), (70, 48))
    entry = host.run()
    assert entry["status"]["status_str"] == "success", entry["status"]
    (image,) = entry["outputs"][str(preview)]["images"]
    overlay = host.picture(image)
    around = [overlay.getpixel((x, y)) for x in range(66, 75) for y in range(44, 53)]
    assert any(blue > 150 and blue > red + 60 for red, _, blue in around), around


def test_the_tracked_path_is_drawn_over_the_picture(host):
    """The path that an optimisation reports is shown by the picker that its points come from, and by no other."""
    _, points = host.with_picture()
    optimise = host.add("DragNoiseOptimize", (950, 120))
    host.link(points, 0, optimise, "points")
    path = json.dumps({"width": 48, "height": 32, "path": [[[10, 10]], [[20, 12]]]})
    show = """([node, path]) => app.api.dispatchEvent(
        new CustomEvent("executed", { detail: { node, output: { dragnoise_path: [path] } } }))"""
    host.js(show, [str(optimise), path])
    assert host.js("() => picker.stage.paths") == [[[20, 20], [40, 24]]]
    other = host.add("DragNoiseOptimize", (950, 500))
    host.js(show, [str(other), json.dumps({"width": 48, "height": 32, "path": [[[1, 1]]]})])
    assert host.js("() => picker.stage.paths") == [[[20, 20], [40, 24]]]


def test_points_go_where_the_run_moved_them_unless_they_were_changed_meanwhile(host):
    _, points = host.with_picture()
    host.drag((20, 20), (60, 30))
    sent = host.text
    pair = {"handle": [24, 22], "target": [64, 32]}
    moved = json.dumps({"version": 1, "width": 96, "height": 64, "pairs": [pair]})
    show = """([node, texts]) => app.api.dispatchEvent(
        new CustomEvent("executed", { detail: { node, output: { dragnoise_points: texts } } }))"""
    host.js(show, [str(points), [sent, moved]])
    assert host.pairs == [[[24, 22], [64, 32]]]
    assert json.loads(host.prompt_of("DragNoisePoints")[0]["points"])["pairs"] == [pair]
    host.button("Undo").click()
    assert host.text == sent
    host.drag((60, 30), (70, 30))
    host.js(show, [str(points), [sent, moved]])
    assert host.pairs == [[[20, 20], [70, 30]]]


def open_start_here(host) -> tuple[str, list]:
    """Load the start-here workflow with its picker in sight, as a person who just opened it; returns the id of the
    node that shows the result, and the nose's pair."""
    workflow = json.loads((ROOT / "example_workflows" / "01_start_here.json").read_text())
    edit = next(node["id"] for node in workflow["nodes"] if node["type"] == "DragNoiseEdit")
    result = next(link[3] for link in workflow["links"] if link[1] == edit and link[2] == 0)
    host.load(workflow)
    host.wait_for_picker()
    host.page.wait_for_function("() => picker.model.stage.width === 256")
    host.look_at(offset=(-600, -200))
    return str(result), host.pairs[0]


def test_settings_show_what_is_sent(host):
    """Choosing a preset fills the widgets; changing one of them makes the preset custom; nothing else is sent."""
    settings = host.add("DragNoiseSettings", (40, 120))
    edit = host.add("DragNoiseEdit", (600, 120))
    host.link(settings, 0, edit, "settings")
    presets = get(host.url, "/object_info/DragNoiseSettings")["DragNoiseSettings"]["input"]["required"]["preset"][1]
    presets = presets["presets"]
    choose = """([id, name, value]) => {
        const node = app.graph.getNodeById(id);
        const widget = node.widgets.find((each) => each.name === name);
        widget.value = value;
        widget.callback?.(value, app.canvas, node);
    }"""
    assert host.prompt_of("DragNoiseSettings") == [{"preset": "default", **presets["default"]}]
    host.js(choose, [settings, "preset", "paper"])
    assert host.prompt_of("DragNoiseSettings") == [{"preset": "paper", **presets["paper"]}]
    host.js(choose, [settings, "iterations", 7])
    changed = {"preset": "custom", **presets["paper"], "iterations": 7}
    assert host.prompt_of("DragNoiseSettings") == [changed]
    host.load(host.stored())
    assert host.prompt_of("DragNoiseSettings") == [changed]


def test_start_here_runs_and_shows_picture_path_report_and_result(host, screenshots):
    """With few steps: what is shown where, not how well it drags."""
    result, (handle, _) = open_start_here(host)
    edit = host.js(
        """() => {
            const edit = app.graph.nodes.find((node) => node.type === "DragNoiseEdit");
            for (const [name, value] of [["steps", 6]]) {
                for (const node of app.graph.nodes) {
                    const widget = node.widgets?.find((widget) => widget.name === name);
                    if (widget) widget.value = value;
                }
            }
            return String(edit.id);
        }"""
    )
    entry = host.run(seconds=200, press=True)
    assert entry["status"]["status_str"] == "success", entry["status"]
    host.wait_for_picture(256, 256)
    path = host.js("() => picker.stage.paths")[0]
    assert path[0] == pytest.approx(handle, abs=8)
    assert host.picture(entry["outputs"][result]["images"][0]).size == (256, 256)
    # What the node itself goes on showing: the finished picture with the path, and the report.
    host.wait_until_idle()
    host.page.wait_for_function(SHOWN_IN_NODE, arg=[edit, 256])
    report = host.page.locator(".dragnoise-report")
    text = report.inner_text()
    assert re.search(r"point 1: moved .* px left\n", text)
    assert report.bounding_box()["height"] > 40
    if screenshots:
        host.js(
            "() => { app.canvas.ds.scale = 0.8; app.canvas.ds.offset = [-600, 100]; app.canvas.setDirty(true, true); }"
        )
        host.frame()
        host.page.screenshot(path=screenshots / f"start-here-{host.frontend}.png")
    host.load(json.loads(json.dumps(host.stored())))
    host.wait_for_picker()
    assert report.inner_text() == text

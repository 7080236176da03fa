"""The picker in the real ComfyUI, on every frontend and renderer that there is here."""

import json
import re

import pytest
from host_page import ROOT, get

HIDES_LINKED = (1, 40)
# Previews of single steps are larger: eight pixels for each of the latent's.
SHOWN_IN_NODE = """([id, width]) => [
    ...(app.graph.getNodeById(id).imgs ?? []), ...document.querySelectorAll(`[data-node-id="${id}"] img`),
].some((image) => image.naturalWidth === width)"""
IS_DRAFT_SAVED = """(text) => [localStorage, sessionStorage].some((storage) =>
    Object.values(storage).some((value) => value.replaceAll("\\\\", "").includes(text)))"""


def test_the_picture_is_seen_before_any_run_and_pairs_reach_the_prompt(host):
    host.with_picture()
    host.drag((20, 20), (60, 30))
    host.click(70, 50)
    assert host.pairs == [[[20, 20], [60, 30]], [[70, 50], None]]
    (inputs,) = host.prompt_of("DragNoisePoints")
    assert inputs["points"] == host.text
    assert inputs["mask_image"] == ""


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


def test_python_names_the_pair_that_waits(host):
    _, points = host.with_picture()
    preview = host.add("PreviewImage", (950, 120))
    host.link(points, 2, preview, "images")
    host.drag((20, 20), (60, 30))
    host.click(70, 50)
    answer = host.js(
        """async (prompt) => {
            const body = JSON.stringify({ prompt });
            const answer = await app.api.fetchApi("/prompt", { method: "POST", body });
            return [answer.status, await answer.text()];
        }""",
        host.prompt(),
    )
    assert answer[0] == 400
    assert "pair 2 has no target" in answer[1]


def test_the_mask_is_uploaded_and_reaches_python(host):
    _, points = host.with_picture()
    converter = host.add("MaskToImage", (950, 120))
    shown = host.add("PreviewImage", (950, 300))
    host.link(points, 1, converter, "mask")
    host.link(converter, 0, shown, "images")
    host.drag((10, 10), (20, 10))
    host.button("Paint the mask: where the picture may change").click()
    host.drag((30, 50), (60, 50))
    (inputs,) = host.prompt_of("DragNoisePoints")
    assert inputs["mask_image"].endswith(".png [input]")
    assert len(json.dumps(host.stored())) < 20_000, "no picture in the workflow"
    entry = host.run()
    assert entry["status"]["status_str"] == "success", entry["status"]
    (image,) = entry["outputs"][str(shown)]["images"]
    mask = host.picture(image).convert("L")
    assert mask.size == (96, 64)
    assert (mask.getpixel((45, 50)), mask.getpixel((45, 8))) == (255, 0)


def test_a_mask_that_cannot_be_stored_stops_the_run_in_words(host):
    host.with_picture()
    host.drag((10, 10), (20, 10))
    host.page.route("**/upload/image", lambda route: route.fulfill(status=507, body="full"))
    host.button("Paint the mask: where the picture may change").click()
    host.drag((30, 50), (60, 50))
    host.wait_for_message("could not be stored: the server answered 507")
    refused = host.js("() => app.graphToPrompt().then(() => '', (error) => error.message)")
    assert "the painted mask could not be stored" in refused
    host.page.unroute("**/upload/image")
    assert host.prompt_of("DragNoisePoints")[0]["mask_image"].endswith(".png [input]")


def test_save_and_load_keep_points_and_mask(host):
    host.with_picture()
    host.drag((20, 20), (60, 30))
    host.button("Paint the mask: where the picture may change").click()
    host.drag((30, 50), (60, 50))
    (before,) = host.prompt_of("DragNoisePoints")
    host.load(json.loads(json.dumps(host.stored())))
    host.wait_for_picker()
    host.wait_for_picture(96, 64)
    assert host.prompt_of("DragNoisePoints") == [before]
    assert host.pairs == [[[20, 20], [60, 30]]]
    assert host.mask_at((45, 50), (45, 8)) == [True, False]


def test_reload_of_the_page_keeps_the_points(host):
    host.with_picture()
    host.drag((20, 20), (60, 30))
    text = host.text
    host.page.wait_for_function(IS_DRAFT_SAVED, arg=text)
    host.load_page()
    host.page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'DragNoisePoints')")
    assert [inputs["points"] for inputs in host.prompt_of("DragNoisePoints")] == [text]


def test_host_undo_takes_one_gesture_at_a_time(host):
    host.with_picture()
    host.drag((20, 20), (60, 30))
    host.drag((60, 30), (60, 50))
    host.keyboard.press("ArrowRight")
    values = [[[20, 20], [61, 50]], [[20, 20], [60, 50]], [[20, 20], [60, 30]]]
    assert host.pairs == [values[0]]
    host.focus_graph()
    for expected in values[1:]:
        host.js("() => (stages.length = 0)")
        host.keyboard.press("Control+z")
        host.page.wait_for_function("() => stages.length")
        host.wait_for_picker()
        assert host.pairs == [expected]


def test_keys_in_the_picker_are_the_pickers(host):
    host.with_picture()
    host.drag((20, 20), (60, 30))
    host.drag((20, 50), (60, 50))
    host.keyboard.press("Delete")
    assert host.pairs == [[[20, 20], [60, 30]]]
    host.keyboard.press("Delete")
    host.keyboard.press("Backspace")
    host.keyboard.press("Control+z")
    assert len(host.pairs) == 2
    host.button("Undo").click()
    assert len(host.pairs) == 1
    assert host.nodes() == ["LoadImage", "DragNoisePoints"]


def test_wheel_and_middle_drag_are_the_graphs_until_the_picker_is_focused(host):
    host.with_picture()
    view = "() => [app.canvas.ds.scale, ...app.canvas.ds.offset]"
    before = host.js(view)
    host.mouse.move(*host.at((48, 32)))
    host.mouse.wheel(0, 120)
    host.page.wait_for_function(f"(before) => ({view})()[0] !== before", arg=before[0])
    host.look_at()
    before = host.js(view)
    host.drag((40, 30), (60, 40), button="middle")
    assert host.js(view)[1:] != before[1:], "the middle button moves the graph"
    host.settle()
    host.click(48, 32)
    host.keyboard.press("Escape")
    before, zoom = host.js(view), host.js("() => picker.stage.viewport.scale")
    host.mouse.wheel(0, -240)
    host.page.wait_for_function("(zoom) => picker.stage.viewport.scale > zoom", arg=zoom)
    assert host.js(view) == before
    if not host.frontend.is_vue:  # there the host keeps the middle button for itself, focus or not
        inner = host.js("() => picker.stage.viewport.x")
        host.drag((40, 30), (46, 34), button="middle")
        assert host.js("() => picker.stage.viewport.x") != inner
        assert host.js(view) == before


def test_places_are_right_when_the_graph_is_zoomed(host):
    host.with_picture()
    for scale in (0.6, 1.7):
        host.look_at(scale, (-380, -60))
        host.drag((20, 20), (60, 30))
        assert host.pairs == [[[20, 20], [60, 30]]]
        host.keyboard.press("Delete")


def test_the_node_keeps_its_size(host):
    _, points = host.with_picture()
    size = "(id) => [...app.graph.getNodeById(id).size]"
    before = host.js(size, points)
    host.drag((20, 20), (60, 30))
    host.js("() => { app.graph.nodes[0].widgets[0].value = 'tall.png'; }")
    host.wait_for_picture(40, 80)
    host.settle()
    assert host.js(size, points) == before


def test_another_picture_keeps_what_fits(host):
    host.with_picture()
    host.drag((10, 10), (30, 30))
    host.drag((80, 10), (90, 30))
    host.js("() => { app.graph.nodes[0].widgets[0].value = 'other.png'; }")
    host.page.wait_for_function("() => picker.stage.picture.src.includes('other.png')")
    assert len(host.pairs) == 2
    host.js("() => { app.graph.nodes[0].widgets[0].value = 'tall.png'; }")
    host.wait_for_picture(40, 80)
    assert host.pairs == [[[10, 10], [30, 30]]]
    assert "1 pair or pin lies outside" in host.message


def test_without_a_picture_the_stage_has_the_size_of_the_numbers(host):
    points = host.add("DragNoisePoints", (480, 120), width=300, height=200)
    host.wait_for_picker()
    host.page.wait_for_function("() => picker.model.stage.width === 300")
    host.drag((100, 100), (150, 120))
    loader = host.add("LoadImage", (40, 120), image="wide.png")
    host.link(loader, 0, points, "image")
    host.wait_for_picture(96, 64)
    assert host.pairs == [[[100, 100], [150, 120]]], "stored as placed; Python scales as the picker shows"
    host.unlink(points, "image")
    host.page.wait_for_function("() => !picker.stage.picture && picker.model.stage.width === 300")
    assert host.pairs == [[[100, 100], [150, 120]]]


def test_the_picture_comes_through_reroutes_and_bypassed_nodes(host):
    loader = host.add("LoadImage", (40, 120), image="wide.png")
    reroute = host.add("Reroute", (300, 60))
    flip = host.add("ImageInvert", (300, 160))
    points = host.add("DragNoisePoints", (560, 120))
    host.link(loader, 0, reroute, "")
    host.js("([a, b]) => app.graph.getNodeById(a).connect(0, app.graph.getNodeById(b), 0)", [reroute, flip])
    host.link(flip, 0, points, "image")
    host.js("(id) => { app.graph.getNodeById(id).mode = 4; }", flip)
    host.wait_for_picker()
    host.wait_for_picture(96, 64)


def test_copy_and_paste_doubles_the_node_and_keeps_both(host):
    _, points = host.with_picture()
    host.drag((20, 20), (60, 30))
    host.press("r")
    host.keyboard.down("Shift")
    host.click(80, 50)
    host.keyboard.up("Shift")
    (ring,), pins = host.stored_points
    assert ring > 0 and pins == [[80, 50]]
    host.js("(id) => { app.canvas.deselectAll(); app.canvas.selectNode(app.graph.getNodeById(id)); }", points)
    host.page.evaluate("() => document.activeElement.blur()")
    host.js("() => { app.canvas.copyToClipboard(); app.canvas.pasteFromClipboard(); }")
    host.page.wait_for_function("() => app.graph.nodes.filter((node) => node.type === 'DragNoisePoints').length === 2")
    texts = [inputs["points"] for inputs in host.prompt_of("DragNoisePoints")]
    assert len(texts) == 2 and texts[0] == texts[1] != ""
    host.js("() => { window.picker = { stage: stages.at(-1), model: stages.at(-1).model }; picker.model.load(''); }")
    texts = [inputs["points"] for inputs in host.prompt_of("DragNoisePoints")]
    assert sorted(map(bool, texts)) == [False, True], "two nodes, two pickers"


def test_switching_tabs_and_back_keeps_points_and_mask(host):
    host.with_picture()
    host.drag((20, 20), (60, 30))
    host.button("Paint the mask: where the picture may change").click()
    host.drag((30, 50), (60, 50))
    (before,) = host.prompt_of("DragNoisePoints")
    name = host.js("() => app.extensionManager.workflow.activeWorkflow.filename")
    host.js("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    host.page.wait_for_function("() => !app.graph.nodes.length")
    host.js("() => (stages.length = 0)")
    host.page.locator(f"text='{name}' >> visible=true").first.click()
    host.wait_for_picker()
    host.wait_for_picture(96, 64)
    assert host.prompt_of("DragNoisePoints") == [before]
    host.drag((60, 30), (70, 30))
    assert host.pairs == [[[20, 20], [70, 30]]]


def test_in_a_subgraph(host):
    """Packed into a subgraph, the node keeps its points and still sees the picture outside."""
    _, points = host.with_picture()
    host.drag((20, 20), (60, 30))
    text = host.text
    host.js("() => (stages.length = 0)")
    host.js(
        """(id) => {
            const node = app.graph.getNodeById(id);
            const { subgraph } = app.graph.convertToSubgraph(new Set([node]));
            const { canvas } = app;
            canvas.openSubgraph ? canvas.openSubgraph(subgraph, app.graph.nodes.at(-1)) : canvas.setGraph(subgraph);
        }""",
        points,
    )
    host.wait_for_picker()
    host.wait_for_picture(96, 64)
    assert host.text == text
    host.look_at(offset=(-200, 0))
    host.drag((20, 50), (60, 50))
    assert [inputs["points"] for inputs in host.prompt_of("DragNoisePoints")] == [host.text]
    assert len(host.pairs) == 2
    host.js("() => app.canvas.setGraph(app.rootGraph ?? app.graph)")


def test_points_from_a_linked_string(host):
    """The link's points go to Python; the picker's own are kept for when the link goes. The newest host hides a linked
    widget; the oldest shows it, so the picker shows the link's points then and lets nobody change them."""
    _, points = host.with_picture()
    host.drag((20, 20), (60, 30))
    own = host.text
    tracks = '[[{"x": 5, "y": 6}, {"x": 50, "y": 40}]]'
    text = host.add("PrimitiveString", (40, 500), value=tracks)
    host.link(text, 0, points, "points")
    if host.frontend.number < HIDES_LINKED:
        host.page.wait_for_function("(tracks) => picker.model.text === tracks", arg=tracks)
        assert host.js("() => picker.model.state.pairs") == [{"handle": [5, 6], "target": [50, 40]}]
        assert "come from the link" in host.message
        host.drag((5, 6), (30, 30))
        assert host.text == tracks
    (inputs,) = host.prompt_of("DragNoisePoints")
    assert inputs["points"] == [str(text), 0]
    host.load(host.stored())
    host.page.wait_for_function("(id) => stages.length && app.graph.getNodeById(id)?.getInputLink(0)", arg=points)
    host.unlink(points, "points")
    host.wait_for_picker()
    host.page.wait_for_function("(own) => picker.model.text === own", arg=own)
    assert host.prompt_of("DragNoisePoints")[0]["points"] == own


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


def test_a_preview_beside_the_picker_brings_the_picture_before_any_point(host):
    loader = host.add("LoadImage", (40, 120), image="wide.png")
    flip = host.add("ImageInvert", (300, 500))
    points = host.add("DragNoisePoints", (480, 120))
    preview = host.add("PreviewImage", (950, 120))
    host.link(loader, 0, flip, "image")
    host.link(flip, 0, points, "image")
    host.wait_for_picker()
    host.page.wait_for_function("() => picker.stage.blankText.includes('Connect a Preview Image')")
    host.link(flip, 0, preview, "images")
    assert host.run()["status"]["status_str"] == "success"
    host.wait_for_picture(96, 64)


def test_removing_the_node_releases_everything(host):
    host.js(
        """() => {
            window.looking = new Set();
            const { setInterval, clearInterval } = window;
            window.setInterval = (...rest) => {
                const id = setInterval(...rest);
                if (new Error().stack.includes("node_picker.js")) looking.add(id);
                return id;
            };
            window.clearInterval = (id) => {
                looking.delete(id);
                clearInterval(id);
            };
        }"""
    )
    _, points = host.with_picture()
    assert host.js("() => looking.size") == 1
    host.js("(id) => app.graph.remove(app.graph.getNodeById(id))", points)
    host.page.wait_for_function("() => !looking.size && !document.querySelector('.dragnoise-picker')")


def test_screenshot(host, screenshots):
    if not screenshots:
        pytest.skip("pictures for looking at are made when DRAGNOISE_SCREENSHOTS names a folder")
    host.with_picture()
    host.drag((20, 20), (60, 30))
    host.drag((30, 50), (75, 45))
    host.page.screenshot(path=screenshots / f"{host.frontend}.png")


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

"""The picker in the real ComfyUI, on every frontend and renderer that there is here."""

import json

import pytest


def test_the_picture_is_seen_before_any_run_and_pairs_reach_the_prompt(host):
    host.with_picture()
    host.drag((20, 20), (60, 30))
    host.click(70, 50)
    assert host.pairs == [[[20, 20], [60, 30]], [[70, 50], None]]
    (inputs,) = host.prompt_of("DragNoisePoints")
    assert inputs["points"] == host.text
    assert inputs["mask_image"] == ""


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


def test_screenshot(host, screenshots):
    if not screenshots:
        pytest.skip("pictures for looking at are made when DRAGNOISE_SCREENSHOTS names a folder")
    host.with_picture()
    host.drag((20, 20), (60, 30))
    host.drag((30, 50), (75, 45))
    host.page.screenshot(path=screenshots / f"{host.frontend}.png")

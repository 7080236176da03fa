"""The picker among other nodes of the real ComfyUI: links, subgraphs, copies, tabs and saved workflows."""

import json

HIDES_LINKED = (1, 40)
IS_DRAFT_SAVED = """(text) => [localStorage, sessionStorage].some((storage) =>
    Object.values(storage).some((value) => value.replaceAll("\\\\", "").includes(text)))"""


def with_pair_and_mask(host):
    """Open a picture, drag a pair and paint a mask; return what the node would be sent with."""
    host.with_picture()
    host.drag((20, 20), (60, 30))
    host.button("Paint the mask: where the picture may change").click()
    host.drag((30, 50), (60, 50))
    (before,) = host.prompt_of("DragNoisePoints")
    return before


def test_save_and_load_keep_points_and_mask(host):
    before = with_pair_and_mask(host)
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
    before = with_pair_and_mask(host)
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

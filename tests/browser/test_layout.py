"""How the example workflows stand on the screen, measured in the real page on every frontend and renderer."""

import pytest
from host_page import HostPage, get
from workflow_files import EXAMPLES, fits, read_workflow

# In the graph's units, whatever draws the nodes. `least` is the height that a node's content needs.
MEASURE = """() => {
    const bar = LiteGraph.NODE_TITLE_HEIGHT;
    const { scale, offset } = app.canvas.ds;
    const ground = app.canvas.canvas.getBoundingClientRect();
    const context = document.createElement("canvas").getContext("2d");
    context.font = `${LiteGraph.NODE_TEXT_SIZE}px ${LiteGraph.NODE_FONT ?? "Arial"}`;
    const elementOf = (node) => document.querySelector(`[data-node-id="${node.id}"]`);
    const boxOf = (node) => {
        const [x, y] = node.pos;
        if (!elementOf(node)) return [x, y - bar, x + node.size[0], y + node.size[1]];
        const { left, top, width, height } = elementOf(node).getBoundingClientRect();
        const corner = [(left - ground.left) / scale - offset[0], (top - ground.top) / scale - offset[1]];
        return [...corner, corner[0] + width / scale, corner[1] + height / scale];
    };
    const isTitleCut = (node) => {
        const title = elementOf(node)?.querySelector("[data-testid=node-title]");
        if (!title) return context.measureText(node.title).width > node.size[0] - 1.5 * bar;
        return [title, ...title.querySelectorAll("*")].some((part) => part.scrollWidth > part.clientWidth + 1);
    };
    return {
        nodes: app.graph.nodes.map((node) => ({
            title: node.title,
            type: node.type,
            box: boxOf(node),
            least: node.computeSize()[1] + bar,
            isTitleCut: isTitleCut(node),
        })),
        groups: app.graph.groups.map(({ title, pos, size }) => ({
            title, box: [pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]],
        })),
    };
}"""
SHOW_ALL = """() => {
    const boxes = [...app.graph.nodes, ...app.graph.groups].map(({ pos, size }) => [...pos, ...size]);
    const [left, top] = [0, 1].map((side) => Math.min(...boxes.map((box) => box[side])) - 60);
    const [width, height] = [0, 1].map((side) => Math.max(...boxes.map((box) => box[side] + box[side + 2])));
    const scale = Math.min(1300 / (width - left), 780 / (height - top));
    Object.assign(app.canvas.ds, { scale, offset: [60 / scale - left, 100 / scale - top] });
    app.canvas.setDirty(true, true);
}"""
# Wait until no box has moved for ten frames.
SETTLE = f"""() => new Promise((done) => {{
    let [still, before] = [0, ""];
    const look = () => {{
        const now = JSON.stringify(({MEASURE})());
        still = now === before ? still + 1 : 0;
        before = now;
        still < 10 ? requestAnimationFrame(look) : done();
    }};
    look();
}})"""
GROWING = {"MarkdownNote", "DragNoisePoints", "LoadImage", "PreviewImage", "SaveImage", "SaveAnimatedWEBP",
           "PreviewAny", "CLIPTextEncode"}  # fmt: skip
ROUNDING = 1


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_node_overflows_covers_or_stands_half_empty(host: HostPage, path, screenshots):
    workflow = read_workflow(path)
    if not fits(workflow, get(host.url, "/object_info")):
        pytest.skip("for hosts with another Train LoRA")
    host.load(workflow)
    host.page.wait_for_function("(count) => app.graph.nodes.length === count", arg=len(workflow["nodes"]))
    host.js(SHOW_ALL)
    host.js(SETTLE)
    if screenshots:
        host.page.screenshot(path=screenshots / f"{path.stem}-{host.frontend}.png")
    found = host.js(MEASURE)
    nodes = found["nodes"]
    assert [node["title"] for node in nodes if node["isTitleCut"]] == []
    assert [
        (node["title"], group["title"])
        for node in nodes
        for group in found["groups"]
        if holds_middle(group["box"], node["box"]) and not holds(group["box"], node["box"])
    ] == []
    groups = found["groups"]
    for boxes in (nodes, groups):
        assert [
            (first["title"], second["title"])
            for number, first in enumerate(boxes)
            for second in boxes[:number]
            if overlap(first["box"], second["box"])
        ] == []
    assert [
        node["title"]
        for node in nodes
        if node["type"] not in GROWING and height(node["box"]) > 1.4 * max(node["least"], 100)
    ] == []


def height(box) -> float:
    return box[3] - box[1]


def holds(outer, inner) -> bool:
    return all(
        outer[side] <= inner[side] + ROUNDING and inner[side + 2] <= outer[side + 2] + ROUNDING for side in (0, 1)
    )


def holds_middle(outer, inner) -> bool:
    return all(outer[side] < (inner[side] + inner[side + 2]) / 2 < outer[side + 2] for side in (0, 1))


def overlap(first, second) -> bool:
    return all(
        first[side] + ROUNDING < second[side + 2] and second[side] + ROUNDING < first[side + 2] for side in (0, 1)
    )

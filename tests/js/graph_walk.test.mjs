import assert from "node:assert/strict";
import { test } from "node:test";

import { inputIndex, isLinked, nodeByExecutionId, sourceNode } from "../../js/point_picker/host/graph_walk.js";
import { fileFromName, fileUrl, findPicture } from "../../js/point_picker/host/picture_source.js";

/** A graph in the host's shape, just as much as is read of it. `links`: [from, output, to, input]. */
function graphOf(nodes, links, id = "root") {
  const graph = { id, nodes, links: new Map(), getNodeById: (wanted) => nodes.find((node) => node.id === wanted) };
  links.forEach(([origin_id, origin_slot, target_id, target_slot], index) => {
    graph.links.set(index, { origin_id, origin_slot, target_id, target_slot });
  });
  for (const node of nodes) node.graph = graph;
  return graph;
}

function nodeOf(id, { inputs = ["image"], outputs = ["IMAGE"], ...rest } = {}) {
  return {
    id,
    mode: 0,
    inputs: inputs.map((name) => ({ name, type: name.toUpperCase() })),
    outputs: outputs.map((type) => ({ type })),
    getInputLink(index) {
      return [...this.graph.links.values()].find((link) => link.target_id === id && link.target_slot === index) ?? null;
    },
    ...rest,
  };
}

/** A subgraph's node. Asked for the link into an input it answers with one of its inside, as the host's does. */
function subgraphNode(id, subgraph, output) {
  return nodeOf(id, {
    subgraph,
    isSubgraphNode: () => true,
    getInputLink: () => ({ origin_id: "wrong", origin_slot: 0 }),
    resolveSubgraphOutputLink: () => output && { link: output },
  });
}

const loader = (id = 1, image = "a.png") => nodeOf(id, { inputs: [], comfyClass: "LoadImage", widgets: [{ name: "image", value: image }] });

test("nothing linked has no source", () => {
  const graph = graphOf([nodeOf(1)], []);
  assert.equal(sourceNode(graph.nodes[0], 0, graph), null);
  assert.equal(sourceNode(graph.nodes[0], -1, graph), null);
  assert.equal(isLinked(graph.nodes[0], "image"), false);
  assert.equal(isLinked(graph.nodes[0], "no such input"), false);
});

test("reroutes and bypassed nodes hand on, muted ones do not", () => {
  for (const [middle, found] of [
    [nodeOf(2, { type: "Reroute", inputs: [""] }), 1],
    [nodeOf(2, { mode: 4, inputs: ["mask", "image"] }), 1],
    [nodeOf(2, { mode: 4, inputs: ["mask"] }), undefined],
    [nodeOf(2, { mode: 2 }), undefined],
    [nodeOf(2), 2],
  ]) {
    const slot = Math.max(inputIndex(middle, "image"), 0);
    const graph = graphOf([loader(), middle, nodeOf(3)], [[1, 0, 2, slot], [2, 0, 3, 0]]);
    assert.equal(sourceNode(graph.nodes[2], 0, graph)?.id, found);
  }
});

test("a ring of reroutes ends", () => {
  const reroute = (id) => nodeOf(id, { type: "Reroute", inputs: [""] });
  const graph = graphOf([reroute(1), reroute(2)], [[1, 0, 2, 0], [2, 0, 1, 0]]);
  assert.equal(sourceNode(graph.nodes[0], 0, graph), null);
});

test("out of a subgraph to what is linked to its node", () => {
  const inner = nodeOf(5);
  const subgraph = graphOf([inner], [[-10, 0, 5, 0]], "inside");
  const graph = graphOf([loader(), subgraphNode(2, subgraph)], [[1, 0, 2, 0]]);
  assert.equal(sourceNode(inner, 0, graph)?.id, 1);
});

test("out of a subgraph in a subgraph", () => {
  const inner = nodeOf(5);
  const deep = graphOf([inner], [[-10, 0, 5, 0]], "deep");
  const middle = graphOf([subgraphNode(6, deep)], [[-10, 0, 6, 0]], "middle");
  const graph = graphOf([loader(), subgraphNode(2, middle)], [[1, 0, 2, 0]]);
  assert.equal(sourceNode(inner, 0, graph)?.id, 1);
});

test("into a subgraph to what computes its output", () => {
  const subgraph = graphOf([loader(7)], [], "inside");
  const node = subgraphNode(2, subgraph, { origin_id: 7, origin_slot: 0 });
  const graph = graphOf([node, nodeOf(3)], [[2, 0, 3, 0]]);
  assert.equal(sourceNode(graph.nodes[1], 0, graph)?.id, 7);
  const empty = graphOf([subgraphNode(2, subgraph, null), nodeOf(3)], [[2, 0, 3, 0]]);
  assert.equal(sourceNode(empty.nodes[1], 0, empty), null);
});

test("a node by its execution id", () => {
  const subgraph = graphOf([nodeOf(7)], [], "inside");
  const graph = graphOf([subgraphNode(2, subgraph), nodeOf(3)], []);
  assert.equal(nodeByExecutionId("3", graph).id, 3);
  assert.equal(nodeByExecutionId("2:7", graph).id, 7);
  assert.equal(nodeByExecutionId("2:8", graph), null);
  assert.equal(nodeByExecutionId("9:1", graph), null);
});

test("the picture: the loader's choice, else what was shown upstream, else what the node got itself", () => {
  const chosen = graphOf([loader(1, "cats/a b.png [output]"), nodeOf(3)], [[1, 0, 3, 0]]);
  assert.deepEqual(findPicture(chosen.nodes[1], { graph: chosen }), { filename: "a b.png", subfolder: "cats", type: "output" });

  const computed = graphOf([nodeOf(1), nodeOf(3)], [[1, 0, 3, 0]]);
  const [shown, own] = [{ filename: "shown.png" }, { filename: "own.png" }];
  const nodeOutputs = { 1: { images: [shown] }, 3: { dragnoise_picture: [own] } };
  assert.equal(findPicture(computed.nodes[1], { graph: computed, nodeOutputs }), shown);
  delete nodeOutputs[1];
  assert.equal(findPicture(computed.nodes[1], { graph: computed, nodeOutputs }), own);
  assert.equal(findPicture(computed.nodes[1], { graph: computed, nodeOutputs: {} }), null);
  assert.equal(findPicture(graphOf([nodeOf(3)], []).nodes[0], { graph: computed, nodeOutputs }), null, "an old run is no picture");
});

test("a preview of the same output shows the picture before the node itself ran", () => {
  const preview = (id, rest) => nodeOf(id, { inputs: ["images"], comfyClass: "PreviewImage", ...rest });
  const source = nodeOf(1, { outputs: ["IMAGE", "IMAGE"] });
  const [beside, elsewhere, muted] = [preview(3), preview(4), preview(5, { mode: 2 })];
  const links = [[1, 0, 2, 0], [1, 1, 4, 0], [1, 0, 5, 0], [1, 0, 3, 0]];
  const graph = graphOf([source, nodeOf(2), elsewhere, muted, beside], links);
  const pictures = (name) => ({ images: [{ filename: name }] });
  const nodeOutputs = { 3: pictures("right.png"), 4: pictures("other output.png"), 5: pictures("old.png") };
  assert.equal(findPicture(graph.nodes[1], { graph, nodeOutputs }).filename, "right.png");
  delete nodeOutputs[3];
  assert.equal(findPicture(graph.nodes[1], { graph, nodeOutputs }), null);
});

test("outputs inside a subgraph are filed under its id", () => {
  const inside = graphOf([nodeOf(1), nodeOf(3)], [[1, 0, 3, 0]], "uuid");
  const graph = graphOf([subgraphNode(2, inside)], []);
  const nodeOutputs = { "uuid:1": { images: [{ filename: "in.png" }] }, 1: { images: [{ filename: "wrong.png" }] } };
  assert.equal(findPicture(inside.nodes[1], { graph, nodeOutputs }).filename, "in.png");
});

test("names of stored files", () => {
  assert.deepEqual(fileFromName("a.png"), { filename: "a.png", subfolder: "", type: "input" });
  assert.deepEqual(fileFromName("x/y/a [b].png [temp]"), { filename: "a [b].png", subfolder: "x/y", type: "temp" });
  const api = { apiURL: (path) => `/base${path}` };
  assert.equal(fileUrl(fileFromName("x/a&b.png"), api), "/base/view?filename=a%26b.png&subfolder=x&type=input");
});

/**
 * Finding where a link comes from, in ComfyUI's graph: through reroutes, bypassed nodes and subgraphs, both ways.
 * Knows the graph's shape only; nothing is imported.
 */

const SUBGRAPH_INPUT = -10;
const MUTED = 2;
const BYPASSED = 4;
const MAX_STEPS = 1000;

export function inputIndex(node, name) {
  return node.inputs?.findIndex((input) => input.name === name) ?? -1;
}

export function isLinked(node, name) {
  const index = inputIndex(node, name);
  return index >= 0 && Boolean(node.getInputLink(index));
}

/** The node that computes what arrives at the input `index` of `node`, or null. */
export function sourceNode(node, index, rootGraph) {
  return sourceOutput(node, index, rootGraph)?.node ?? null;
}

/** The same with the number of its output: {node, slot}, or null. */
export function sourceOutput(node, index, rootGraph) {
  for (let step = 0; step < MAX_STEPS && node && index >= 0; step++) {
    const link = linkInto(node, index);
    if (!link) return null;
    const { graph } = node;
    if (Number(link.origin_id) === SUBGRAPH_INPUT) {
      [node, index] = [subgraphNodeOf(graph, rootGraph), link.origin_slot];
      continue;
    }
    let [origin, slot] = [graph.getNodeById(link.origin_id), link.origin_slot];
    while (origin?.isSubgraphNode?.()) {
      const inner = origin.resolveSubgraphOutputLink(slot)?.link;
      [origin, slot] = inner ? [origin.subgraph.getNodeById(inner.origin_id), inner.origin_slot] : [null, 0];
    }
    const passing = passedInput(origin, slot);
    if (passing === null) return origin ? { node: origin, slot } : null;
    [node, index] = [origin, passing];
  }
  return null;
}

/** The node that an execution id names: ids from the root down, joined by colons. */
export function nodeByExecutionId(executionId, rootGraph) {
  let [graph, node] = [rootGraph, null];
  for (const id of String(executionId).split(":")) {
    node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
    graph = node?.subgraph;
  }
  return node ?? null;
}

/** The link at the input `index`. A subgraph's node itself would answer with a link of its inside. */
function linkInto(node, index) {
  if (!node.isSubgraphNode?.()) return node.getInputLink(index);
  const links = [...(node.graph.links?.values() ?? [])];
  return links.find((link) => String(link.target_id) === String(node.id) && link.target_slot === index);
}

/** The input that `node` hands on at its output `slot`; null when it computes something, -1 when nothing comes. */
function passedInput(node, slot) {
  if (!node) return null;
  if (node.mode === MUTED) return -1;
  if (node.type === "Reroute") return 0;
  if (node.mode !== BYPASSED) return null;
  const type = node.outputs[slot]?.type;
  return node.inputs.findIndex((input) => input.type === type);
}

/** The node through which `subgraph` is used. */
function subgraphNodeOf(subgraph, graph, seen = new Set()) {
  if (seen.has(graph)) return null;
  seen.add(graph);
  for (const node of graph?.nodes ?? []) {
    if (!node.subgraph) continue;
    if (node.subgraph === subgraph) return node;
    const deeper = subgraphNodeOf(subgraph, node.subgraph, seen);
    if (deeper) return deeper;
  }
  return null;
}

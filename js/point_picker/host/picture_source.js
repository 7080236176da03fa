/** Which picture a node is going to get, as far as the browser can know: {filename, subfolder, type}. */

import { inputIndex, sourceNode, sourceOutput } from "./graph_walk.js";

const PREVIEWS = ["PreviewImage", "SaveImage"];

/**
 * The picture that arrives at `node`'s input "image": the file that a loader upstream has chosen, what the node
 * upstream or a preview beside `node` showed at its last run, or what `node` itself got at its last run; null when
 * none is known.
 */
export function findPicture(node, app) {
  const source = sourceNode(node, inputIndex(node, "image"), app.rootGraph ?? app.graph);
  if (!source) return null;
  const shown = [source, ...previewsBeside(node, app)].map((each) => outputOf(each, app)?.images?.[0]);
  return chosenFile(source) ?? shown.find(Boolean) ?? outputOf(node, app)?.dragnoise_picture?.[0] ?? null;
}

/** Split the host's "folder/name.png [output]" into its parts. */
export function fileFromName(text) {
  const [, path, type = "input"] = /^(.*?)(?: \[(input|output|temp)\])?$/s.exec(text);
  const cut = path.lastIndexOf("/") + 1;
  return { filename: path.slice(cut), subfolder: path.slice(0, Math.max(cut - 1, 0)), type };
}

/** The address that shows a stored file. */
export function fileUrl({ filename, subfolder = "", type = "input" }, api) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/** The nodes that show the very output that feeds `node`. A muted or bypassed one shows an earlier run. */
function previewsBeside(node, app) {
  const root = app.rootGraph ?? app.graph;
  const from = sourceOutput(node, inputIndex(node, "image"), root);
  if (!from) return [];
  const near = new Set([...node.graph.nodes, ...from.node.graph.nodes]);
  return [...near].filter((each) => {
    if (!PREVIEWS.includes(each.comfyClass) || each.mode) return false;
    const other = sourceOutput(each, inputIndex(each, "images"), root);
    return other?.node === from.node && other.slot === from.slot;
  });
}

function chosenFile(source) {
  if (!source.comfyClass?.startsWith("LoadImage")) return null;
  const value = source.widgets?.find((widget) => widget.name === "image")?.value;
  return typeof value === "string" && value ? fileFromName(value) : null;
}

/** What a node showed at its last run. Inside a subgraph its outputs are filed under the subgraph's id too. */
function outputOf(node, app) {
  const { graph } = node;
  const inSubgraph = graph && graph !== (app.rootGraph ?? app.graph);
  return app.nodeOutputs?.[inSubgraph ? `${graph.id}:${node.id}` : node.id];
}

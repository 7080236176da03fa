/** Which picture a node is going to get, as far as the browser can know: {filename, subfolder, type}. */

import { inputIndex, sourceNode, upstreamText } from "./graph_walk.js";

/**
 * The picture that arrives at `node`'s input "image": the file that a loader upstream has chosen, what the node
 * upstream showed at its last run, or what `node` itself got at its last run; null when none is known.
 */
export function findPicture(node, app) {
  const source = sourceNode(node, inputIndex(node, "image"), app.rootGraph ?? app.graph);
  if (!source) return null;
  return chosenFile(source) ?? outputOf(source, app)?.images?.[0] ?? outputOf(node, app)?.dragnoise_picture?.[0] ?? null;
}

/** Whether a run of `ran` renews the picture that `findPicture` gives for `node`. */
export function renewsPicture(node, ran, app) {
  return ran === node || ran === sourceNode(node, inputIndex(node, "image"), app.rootGraph ?? app.graph);
}

/** What the picture of `node` is made with, as text; "" where the picture needs no run. Compared, never read. */
export function pictureRecipe(node, app) {
  const root = app.rootGraph ?? app.graph;
  const source = sourceNode(node, inputIndex(node, "image"), root);
  return !source || chosenFile(source) ? "" : upstreamText(source, root);
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

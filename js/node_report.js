/**
 * What a node says after its run, kept in the node: the host's own text under a node goes when the run ends. It is one
 * of the node's properties, so it comes back with the workflow.
 */

import { onNodeEvent } from "./node_events.js";

/** Pixels for the report of each node that has one. */
const HEIGHTS = { DragNoiseEdit: 92, DragNoiseOptimize: 92, DragNoiseInvert: 28, DragNoiseSaveEdit: 28 };
const PROPERTY = "dragnoise_report";
const STYLE = `
  height: 100%; box-sizing: border-box; overflow: auto; padding: 4px 8px; border-radius: 4px;
  white-space: pre-line; user-select: text; font: 11px/1.4 sans-serif;
  color: var(--input-text, #ddd); background: var(--comfy-input-bg, #1d1e22);`;

/** The extension that the host registers. */
export function nodeReportExtension() {
  return {
    name: "DragNoise.NodeReport",
    nodeCreated(node) {
      if (node.comfyClass in HEIGHTS) addReport(node, HEIGHTS[node.comfyClass]);
    },
  };
}

function addReport(node, height) {
  const element = document.createElement("div");
  element.className = "dragnoise-report";
  element.style.cssText = STYLE;
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => height, getMaxHeight: () => height };
  const widget = node.addDOMWidget("dragnoise_report", "DRAGNOISE_REPORT", element, options);
  widget.serialize = false;
  const show = () => (element.textContent = node.properties[PROPERTY] ?? "Says after a run how it went.");
  onNodeEvent(node, "onConfigure", show);
  onNodeEvent(node, "onExecuted", (output) => {
    if (output?.text) node.properties[PROPERTY] = output.text.join("\n");
    show();
  });
  show();
}

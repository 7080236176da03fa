/**
 * The point picker as ComfyUI's widget: the only module that imports the host.
 *
 * DragNoisePoints declares two strings with widget types of ours. The first widget is the picker itself and holds the
 * points; the second has no face and holds the name of the mask's uploaded file. Two widgets, because the host stores,
 * copies and sends one value for each.
 */

import { api } from "../../../../scripts/api.js";
import { app } from "../../../../scripts/app.js";
import { onNodeEvent } from "../../node_events.js";
import { NodePicker } from "./node_picker.js";

const MIN_HEIGHT = 320;
const NODE_SIZE = { minWidth: 380, minHeight: 560 };

const pickers = new WeakMap();
const onPage = new Set();

export function registerPointPicker() {
  app.registerExtension({
    name: "DragNoise.PointPicker",
    getCustomWidgets: () => ({ DRAGNOISE_POINTS: pointsWidget, DRAGNOISE_MASK: maskWidget }),
    setup() {
      // The path comes with the result, and on its own while the optimisation runs.
      api.addEventListener("executed", ({ detail }) => {
        showPath(detail.node, detail.output?.dragnoise_path?.[0]);
        followPoints(detail.node, detail.output?.dragnoise_points);
      });
      api.addEventListener("dragnoise_path", ({ detail }) => showPath(detail.node, detail.path));
    },
  });
}

function pointsWidget(node, name) {
  const nodePicker = pickerOf(node);
  const widget = node.addDOMWidget(name, "DRAGNOISE_POINTS", nodePicker.root, {
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT,
    getValue: () => nodePicker.points,
    setValue: (text) => (nodePicker.points = text),
  });
  return { widget, ...NODE_SIZE };
}

function maskWidget(node, name) {
  const nodePicker = pickerOf(node);
  const widget = node.addDOMWidget(name, "DRAGNOISE_MASK", document.createElement("div"), {
    hidden: true,
    getMinHeight: () => 0,
    getMaxHeight: () => 0,
    getValue: () => nodePicker.mask,
    setValue: (maskName) => (nodePicker.mask = maskName),
  });
  widget.hidden = true;
  widget.serializeValue = () => nodePicker.storedMask();
  return { widget };
}

function pickerOf(node) {
  if (!pickers.has(node)) {
    const nodePicker = new NodePicker(node, app, api);
    pickers.set(node, nodePicker);
    onNodeEvent(node, "onAdded", () => {
      onPage.add(nodePicker);
      nodePicker.connect();
    });
    onNodeEvent(node, "onRemoved", () => {
      onPage.delete(nodePicker);
      nodePicker.disconnect();
    });
  }
  return pickers.get(node);
}

function showPath(executionId, text) {
  if (!text) return;
  for (const nodePicker of onPage) nodePicker.showPath(executionId, text);
}

function followPoints(executionId, texts) {
  if (!texts) return;
  for (const nodePicker of onPage) nodePicker.followPoints(executionId, ...texts);
}

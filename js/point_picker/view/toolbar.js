/** The toolbar over the stage and the bar under it. */

import { element, iconButton } from "./elements.js";

export const MAX_BRUSH = 512;

/**
 * Build both bars for `picker` ({model, stage, settings, actions}). Returns {top, bottom, message, refresh}: refresh
 * brings every button in line with the model and the settings.
 */
export function buildToolbar({ model, stage, settings, actions }) {
  const tools = {
    points: iconButton("points", "Place and move points", "V", () => actions.setTool("points")),
    pins: iconButton("pin", "Place pins: points that stay", "P, or Shift and press", () => actions.setTool("pins")),
    ...(settings.canPaint && {
      paint: iconButton("paint", "Paint the mask: where the picture may change", "B", () => actions.setTool("paint")),
      erase: iconButton("erase", "Erase the mask", "E", () => actions.setTool("erase")),
    }),
  };
  const reach = iconButton("reach", "Ring around the handle: what moves with it", "R, [ and ]", actions.toggleReach);
  const remove = iconButton("remove", "Remove the selected pair or pin", "Delete, or right click", actions.remove);
  const removeAll = iconButton("removeAll", "Remove all points", "", actions.removeAll);
  const brush = element("input", "", { type: "range", min: "0", max: "100", "aria-label": "Brush size", tabindex: "-1" });
  brush.addEventListener("input", () => actions.setBrush(brushOfSlider(brush.value)));
  const invert = iconButton("invert", "Invert the mask", "I", actions.invertMask);
  const clear = iconButton("clear", "Clear the mask: everything may change", "", actions.clearMask);
  const eye = iconButton("visible", "Show the mask", "H", actions.toggleMask);
  const undo = iconButton("undo", "Undo", "Ctrl+Z", actions.undo);
  const redo = iconButton("redo", "Redo", "Ctrl+Shift+Z", actions.redo);
  const pointTools = element("div", "dn-group", {}, reach, remove, removeAll);
  const maskTools = element("div", "dn-group", {}, brush, invert, clear, eye);
  const top = element(
    "div",
    "dn-bar",
    { role: "toolbar", "aria-label": "Points and mask" },
    element("div", "dn-group", {}, ...Object.values(tools)),
    pointTools,
    maskTools,
    element("div", "dn-group dn-last", {}, undo, redo),
  );

  const message = element("span", "dn-message", { role: "status", "aria-live": "polite" });
  const zoomOut = iconButton("zoomOut", "Zoom out", "-", () => stage.zoom(0.8));
  const fit = element("button", "", { type: "button", "aria-label": "Fit the picture", tabindex: "-1" });
  fit.title = "Fit the picture (0)";
  fit.addEventListener("click", () => stage.fit());
  const zoomIn = iconButton("zoomIn", "Zoom in", "+", () => stage.zoom(1.25));
  const bottom = element("div", "dn-bar", { role: "toolbar", "aria-label": "Zoom" }, message, zoomOut, fit, zoomIn);

  for (const bar of [top, bottom]) roveFocus(bar);

  function refresh(isReadOnly) {
    const { pairs, pins, mask } = model.state;
    const paints = settings.tool === "paint" || settings.tool === "erase";
    const selectedPair = model.selected?.end === "pin" ? null : pairs[model.selected?.index];
    for (const [tool, button] of Object.entries(tools)) showPressed(button, tool === settings.tool);
    pointTools.hidden = paints;
    maskTools.hidden = !paints;
    const enabled = new Map([
      [reach, Boolean(selectedPair)],
      [remove, Boolean(model.selected)],
      [removeAll, pairs.length + pins.length > 0],
      [clear, mask.length > 0],
      [undo, model.canUndo],
      [redo, model.canRedo],
      ...[...Object.values(tools), brush, invert, eye].map((button) => [button, true]),
    ]);
    for (const [button, isEnabled] of enabled) button.disabled = isReadOnly || !isEnabled;
    showPressed(reach, Boolean(selectedPair?.reach));
    showPressed(eye, settings.maskVisible);
    brush.value = String(sliderOfBrush(settings.brush));
    brush.title = `Brush: ${Math.round(settings.brush)} px ([ and ])`;
    brush.setAttribute("aria-valuetext", `${Math.round(settings.brush)} pixels`);
    if (!stopsOf(top).some((stop) => stop.tabIndex === 0)) moveTabStop(top, stopsOf(top)[0]);
    refreshZoom();
  }

  function refreshZoom() {
    fit.textContent = `${Math.round(stage.viewport.scale * 100)}%`;
  }

  return { top, bottom, message, refresh, refreshZoom };
}

function showPressed(button, isPressed) {
  button.setAttribute("aria-pressed", String(isPressed));
}

/** The slider is logarithmic: small brushes need the finer steps. */
function brushOfSlider(value) {
  return MAX_BRUSH ** (value / 100);
}

function sliderOfBrush(brush) {
  return (100 * Math.log(brush)) / Math.log(MAX_BRUSH);
}

/** One Tab stop for the whole bar; left and right walk over what can be pressed. */
function roveFocus(bar) {
  moveTabStop(bar, bar.querySelector("button"));
  bar.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction || event.target.type === "range") return;
    const all = stopsOf(bar);
    const next = all[(all.indexOf(event.target) + direction + all.length) % all.length];
    next?.focus();
    event.preventDefault();
    event.stopPropagation();
  });
  bar.addEventListener("focusin", (event) => moveTabStop(bar, event.target));
}

/** What can be pressed now. */
function stopsOf(bar) {
  return [...bar.querySelectorAll("button, input")].filter((stop) => !stop.disabled && !stop.closest("[hidden]"));
}

function moveTabStop(bar, next) {
  for (const stop of bar.querySelectorAll("button, input")) stop.tabIndex = stop === next ? 0 : -1;
}

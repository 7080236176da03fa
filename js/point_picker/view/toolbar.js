/** The toolbar over the stage and the bar under it. */

import { element, iconButton } from "./elements.js";

export const MAX_BRUSH = 512;

/**
 * Build both bars for `picker` ({model, stage, settings, actions, texts}). Returns {top, bottom, message, refresh}:
 * refresh brings every button in line with the model and the settings.
 */
export function buildToolbar({ model, stage, settings, actions, texts }) {
  const tools = {
    points: iconButton("points", texts.points, "V", () => actions.setTool("points")),
    pins: iconButton("pin", texts.pins, texts.pinsKeys, () => actions.setTool("pins")),
    ...(settings.canPaint && {
      paint: iconButton("paint", texts.paint, "B", () => actions.setTool("paint")),
      erase: iconButton("erase", texts.erase, "E", () => actions.setTool("erase")),
    }),
  };
  const reach = iconButton("reach", texts.reach, texts.reachKeys, actions.toggleReach);
  const remove = iconButton("remove", texts.remove, texts.removeKeys, actions.remove);
  const removeAll = iconButton("removeAll", texts.removeAll, "", actions.removeAll);
  const brush = element("input", "", { type: "range", min: "0", max: "100", "aria-label": texts.brush, tabindex: "-1" });
  brush.addEventListener("input", () => actions.setBrush(brushOfSlider(brush.value)));
  const invert = iconButton("invert", texts.invert, "I", actions.invertMask);
  const clear = iconButton("clear", texts.clear, "", actions.clearMask);
  const eye = iconButton("visible", texts.showMask, "H", actions.toggleMask);
  const undo = iconButton("undo", texts.undo, "Ctrl+Z", actions.undo);
  const redo = iconButton("redo", texts.redo, "Ctrl+Shift+Z", actions.redo);
  const pointTools = element("div", "dn-group", {}, reach, remove, removeAll);
  const maskTools = element("div", "dn-group", {}, brush, invert, clear, eye);
  const top = element(
    "div",
    "dn-bar",
    { role: "toolbar", "aria-label": texts.pointsAndMask },
    element("div", "dn-group", {}, ...Object.values(tools)),
    pointTools,
    maskTools,
    element("div", "dn-group dn-last", {}, undo, redo),
  );

  const message = element("span", "dn-message", { role: "status", "aria-live": "polite" });
  const zoomOut = iconButton("zoomOut", texts.zoomOut, "-", () => stage.zoom(0.8));
  const fit = element("button", "", { type: "button", "aria-label": texts.fit, tabindex: "-1" });
  fit.title = `${texts.fit} (0)`;
  fit.addEventListener("click", () => stage.fit());
  const zoomIn = iconButton("zoomIn", texts.zoomIn, "+", () => stage.zoom(1.25));
  const bottom = element("div", "dn-bar", { role: "toolbar", "aria-label": texts.zoom }, message, zoomOut, fit, zoomIn);

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
    brush.title = texts.brushSize(Math.round(settings.brush));
    brush.setAttribute("aria-valuetext", texts.pixels(Math.round(settings.brush)));
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

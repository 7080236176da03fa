/** The picker by keyboard alone. Keys that are not named here are left to the page. */

import * as commands from "../model/commands.js";
import { MAX_PAIRS, MAX_PINS, parsePoints, PointsError } from "../model/points_text.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
/** Comma and full stop too: many keyboards have no brackets without a modifier. */
const TURNS = { "[": 1 / 1.1, ",": 1 / 1.1, "]": 1.1, ".": 1.1 };
const PAN = 24;

/**
 * Handle keys for `picker` ({root, keys, stage, model, gestures, actions, say, texts}). `keys` is the field that holds the
 * focus; what also makes sense while a button or the slider has it (Delete, undo, Escape) works from these too, so
 * that the host never takes a Delete in here for one of the node.
 */
export function listenToKeys(picker) {
  const { root, keys, model } = picker;
  root.addEventListener("keydown", (event) => {
    const handled = picker.isReadOnly
      ? false
      : onShortcut(picker, event) || (event.target === keys && onStageKey(picker, event));
    if (handled) settle(event);
  });
  root.addEventListener("copy", (event) => {
    if (!model.text) return;
    event.clipboardData.setData("text/plain", model.text);
    settle(event);
    picker.say(picker.texts.copied);
  });
  root.addEventListener("paste", (event) => {
    if (picker.isReadOnly) return;
    paste(picker, event.clipboardData.getData("text/plain"));
    settle(event);
  });
  root.addEventListener("keyup", (event) => {
    if (event.key === " ") picker.isPanning = false;
    if ((event.key in ARROWS || event.key in TURNS) && model.isPreviewing && !picker.gestures.isActive) model.commit();
  });
  keys.addEventListener("blur", () => {
    picker.isPanning = false;
    if (model.isPreviewing && !picker.gestures.isActive) model.commit();
  });
}

function settle(event) {
  event.preventDefault();
  event.stopPropagation();
}

/** Points as text, of any form that is read; one step of history. */
function paste({ model, gestures, say, texts }, text) {
  if (gestures.isActive) return;
  try {
    parsePoints(text, model.stage);
  } catch (error) {
    if (!(error instanceof PointsError)) throw error;
    return say(texts.notShown(error.message), true);
  }
  model.replacePoints(text);
}

function onShortcut(picker, event) {
  const { actions } = picker;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && !event.altKey) {
    if (key === "z") return run(event.shiftKey ? actions.redo : actions.undo);
    if (key === "y") return run(actions.redo);
    return false;
  }
  if (event.key === "Delete" || event.key === "Backspace") return run(actions.remove);
  if (event.key === "Escape") return escape(picker);
  return false;
}

function onStageKey(picker, event) {
  const { actions, stage } = picker;
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  if (event.key === "Tab") return selectNext(picker, event.shiftKey ? -1 : 1);
  if (event.key in ARROWS) return nudge(picker, ARROWS[event.key], event.shiftKey ? 10 : 1);
  if (event.key === "Enter") return run(() => placeByKey(picker));
  if (event.key in TURNS) return run(() => turn(picker, event.key));
  if (event.key === " ") return run(() => (picker.isPanning = true));
  const byKey = {
    v: () => actions.setTool("points"),
    p: () => actions.setTool("pins"),
    r: actions.toggleReach,
    ...(stage.settings.canPaint && {
      b: () => actions.setTool("paint"),
      e: () => actions.setTool("erase"),
      i: actions.invertMask,
      h: actions.toggleMask,
    }),
    "+": () => stage.zoom(1.25),
    "=": () => stage.zoom(1.25),
    "-": () => stage.zoom(0.8),
    0: () => stage.fit(),
  };
  const action = byKey[event.key.toLowerCase()];
  return action ? run(action) : false;
}

/** Tab walks over handle and target of every pair, then over the pins, then on out of the picker. */
function selectNext({ model, stage }, direction) {
  const { pairs, pins } = model.state;
  const ends = [
    ...pairs.flatMap(({ target }, index) =>
      (target ? ["handle", "target"] : ["handle"]).map((end) => ({ index, end })),
    ),
    ...pins.map((_, index) => ({ index, end: "pin" })),
  ];
  const { selected } = model;
  const at = ends.findIndex(({ index, end }) => index === selected?.index && end === selected.end);
  const next = ends[at < 0 && direction < 0 ? ends.length - 1 : at + direction];
  model.select(next ?? null);
  if (!next) return false;
  stage.reveal(commands.pointAt(model.state, next));
  return true;
}

function nudge({ model, stage, gestures }, [dx, dy], step) {
  if (gestures.isActive) return true;
  const { selected, state } = model;
  if (!selected) {
    stage.pan(-dx * PAN, -dy * PAN);
    return true;
  }
  const [x, y] = commands.pointAt(state, selected);
  const next = commands.setEnd(state, selected.index, selected.end, [x + dx * step, y + dy * step]);
  model.preview(next);
  stage.reveal(commands.pointAt(next, selected));
  return true;
}

/** The brackets turn what a tool has a size for: the brush, or the reach of the selected pair. */
function turn({ model, stage, gestures, actions }, key) {
  const { tool, brush } = stage.settings;
  if (tool === "paint" || tool === "erase") return actions.setBrush(TURNS[key] > 1 ? brush * 1.25 : brush / 1.25);
  const { selected, state } = model;
  if (gestures.isActive || !selected || selected.end === "pin") return;
  model.preview(commands.growReach(state, selected.index, TURNS[key]));
}

/**
 * Enter sets a handle in the middle of what is seen; the next Enter its target beside it; arrows move either. With the
 * pins' tool it sets a pin there.
 */
function placeByKey({ model, stage, gestures, say, texts }) {
  if (gestures.isActive) return;
  const { state } = model;
  const middle = stage.toPicture([stage.view.width / 2, stage.view.height / 2]);
  if (stage.settings.tool === "pins") {
    const next = commands.addPin(state, middle);
    if (next === state) return say(texts.mostPins(MAX_PINS));
    model.commit(next);
    return model.select({ index: state.pins.length, end: "pin" });
  }
  const pending = commands.pendingIndex(state);
  if (pending >= 0) {
    const [x, y] = state.pairs[pending].handle;
    const aside = Math.max(state.width / 10, 1);
    const target = [x + aside <= state.width ? x + aside : x - aside, y];
    model.commit(commands.setEnd(state, pending, "target", target));
    model.select({ index: pending, end: "target" });
    return;
  }
  const next = commands.addHandle(state, middle);
  if (next === state) {
    say(texts.mostPairs(MAX_PAIRS));
    return;
  }
  model.commit(next);
  model.select({ index: state.pairs.length, end: "handle" });
}

/** Escape drops what is least settled: a gesture, a waiting handle, a selection; with none of these it is the page's. */
function escape({ model, gestures }) {
  const pending = commands.pendingIndex(model.state);
  if (gestures.isActive || model.isPreviewing) gestures.cancel();
  else if (pending >= 0) model.commit(commands.removePair(model.state, pending));
  else if (model.selected) model.select(null);
  else return false;
  return true;
}

function run(action) {
  action();
  return true;
}

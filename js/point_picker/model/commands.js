/**
 * Commands: pure functions from one state to the next.
 *
 * A state is {width, height, pairs, pins, mask}: the picture's size in pixels, pairs of {handle, target} with points
 * [x, y] in picture pixels (target null while it waits for the second click) and perhaps a reach in pixels, pins (points
 * that stay), and the mask as the list of operations that paint it. States are never changed in place, so that history
 * can keep them.
 *
 * Mask operations: {kind: "stroke", erase, diameter, points}, {kind: "invert"} and {kind: "file", name, width, height}:
 * an uploaded mask, laid over width x height pixels, or over the whole picture where these are absent.
 */

import { clampReach, MAX_PAIRS, MAX_PINS, scaledPoints } from "./points_text.js";

/** The smallest reach that a person draws, in pixels. */
const SMALLEST_RING = 1;

export function emptyState(width, height) {
  return { width, height, pairs: [], pins: [], mask: [] };
}

/** Index of the pair that waits for its target, or -1. */
export function pendingIndex(state) {
  return state.pairs.findIndex((pair) => !pair.target);
}

/** Add a handle that waits for its target. The same state when there are 64 pairs already, or one waits. */
export function addHandle(state, point) {
  if (state.pairs.length >= MAX_PAIRS || pendingIndex(state) >= 0) return state;
  return { ...state, pairs: [...state.pairs, { handle: inside(state, point), target: null }] };
}

/** Where a selected point is, {index, end} with end "handle", "target" or "pin"; null where there is none. */
export function pointAt({ pairs, pins }, { index, end }) {
  return (end === "pin" ? pins[index] : pairs[index]?.[end]) ?? null;
}

/** Put an end of a pair, or a pin, at a point; outside the picture means its nearest border. */
export function setEnd(state, index, end, point) {
  if (end === "pin") return { ...state, pins: state.pins.with(index, inside(state, point)) };
  return withPair(state, index, { ...state.pairs[index], [end]: inside(state, point) });
}

/** Move handle and target together by (dx, dy), as far as the picture allows for both. */
export function movePair(state, index, dx, dy) {
  const { handle, target } = state.pairs[index];
  const ends = Object.entries({ handle, target }).filter(([, point]) => point);
  const room = (axis, delta, size) => {
    const values = ends.map(([, point]) => point[axis]);
    return clamp(delta, -Math.min(...values), size - Math.max(...values));
  };
  const [roomX, roomY] = [room(0, dx, state.width), room(1, dy, state.height)];
  const moved = ends.map(([end, [x, y]]) => [end, inside(state, [x + roomX, y + roomY])]);
  return withPair(state, index, { ...state.pairs[index], ...Object.fromEntries(moved) });
}

export function removePair(state, index) {
  return { ...state, pairs: state.pairs.filter((_, other) => other !== index) };
}

export function removeAllPoints(state) {
  return { ...state, pairs: [], pins: [] };
}

/** What lies within `reach` pixels of the handle moves with it, to a tenth of a pixel; 0 leaves that to the method. */
export function setReach(state, index, reach) {
  const { reach: old, ...pair } = state.pairs[index];
  const next = reach > 0 ? clampReach(Math.max(tenth(reach), SMALLEST_RING)) : undefined;
  if (next === old) return state;
  return withPair(state, index, next ? { ...pair, reach: next } : pair);
}

/** Make a reach larger by `factor`, or smaller. Smaller than the smallest ring is none; from none it begins anew. */
export function growReach(state, index, factor) {
  const { reach } = state.pairs[index];
  if (reach) return setReach(state, index, reach * factor < SMALLEST_RING ? 0 : reach * factor);
  return factor > 1 ? setReach(state, index, Math.min(state.width, state.height) / 10) : state;
}

/** Add a point that stays. The same state when there are 64 already. */
export function addPin(state, point) {
  if (state.pins.length >= MAX_PINS) return state;
  return { ...state, pins: [...state.pins, inside(state, point)] };
}

/** Remove the pair, or the pin, that a selected point belongs to. */
export function removeAt(state, { index, end }) {
  if (end !== "pin") return removePair(state, index);
  return { ...state, pins: state.pins.filter((_, other) => other !== index) };
}

/** Paint or erase a stroke of the mask: `points` in picture pixels, `diameter` too. */
export function paint(state, { erase, diameter, points }) {
  return { ...state, mask: [...state.mask, { kind: "stroke", erase, diameter, points }] };
}

/** Swap painted and unpainted; twice in a row is nothing. */
export function invertMask(state) {
  const last = state.mask[state.mask.length - 1];
  const mask = last?.kind === "invert" ? state.mask.slice(0, -1) : [...state.mask, { kind: "invert" }];
  return { ...state, mask };
}

export function clearMask(state) {
  return { ...state, mask: [] };
}

/** The mask that an uploaded file holds; "" is none. */
export function maskFromFile(state, name) {
  return { ...state, mask: name ? [{ kind: "file", name }] : [] };
}

/** Everything resized with the picture. */
export function scaled(state, { width, height }) {
  if (width === state.width && height === state.height) return state;
  const [x, y] = [width / state.width, height / state.height];
  const mask = state.mask.map((operation) => {
    if (operation.kind === "stroke") {
      const points = operation.points.map(([px, py]) => [px * x, py * y]);
      return { ...operation, diameter: operation.diameter * Math.sqrt(x * y), points };
    }
    return operation.width ? { ...operation, width: operation.width * x, height: operation.height * y } : operation;
  });
  return { ...scaledPoints(state, { width, height }), mask };
}

/**
 * The state on another picture: resized when the shape is the same; else what still fits stays where it is.
 * Returns {state, lost}: lost counts the pairs and pins that lie outside the new picture and were dropped.
 */
export function fittedToPicture(state, { width, height }) {
  const sameShape = Math.abs((state.width * height) / (state.height * width) - 1) < 0.01;
  if (sameShape) return { state: scaled(state, { width, height }), lost: 0 };
  const fits = (point) => !point || (point[0] <= width && point[1] <= height);
  const pairs = state.pairs.filter(({ handle, target }) => fits(handle) && fits(target));
  const mask = state.mask.map((operation) =>
    operation.kind === "file" && !operation.width
      ? { ...operation, width: state.width, height: state.height }
      : operation,
  );
  const pins = state.pins.filter(fits);
  const lost = state.pairs.length - pairs.length + state.pins.length - pins.length;
  return { state: { width, height, pairs, pins, mask }, lost };
}

function withPair(state, index, pair) {
  return { ...state, pairs: state.pairs.map((old, other) => (other === index ? pair : old)) };
}

/** The nearest point of the picture, to a tenth of a pixel. */
function inside({ width, height }, [x, y]) {
  return [tenth(clamp(x, 0, width)), tenth(clamp(y, 0, height))];
}

function tenth(value) {
  return Math.round(value * 10) / 10;
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/** Drawing of points, arrows, paths and cursors on a canvas, in view pixels. Outlines keep them readable anywhere. */

import { pendingIndex } from "../model/commands.js";
import { reachGrip, toView } from "../model/geometry.js";

const HANDLE_COLOUR = "#e0242f";
const TARGET_COLOUR = "#1668e8";
const PATH_COLOUR = "#ffd60a";
const PIN_COLOUR = "#0b7d46";
const SELECTED_COLOUR = "#ffe45c";
const LIGHT = "#ffffff";
const DARK = "rgba(0, 0, 0, 0.65)";
const RADIUS = 7;

/** Draw the arrow of every whole pair of `state`; `selected` is {index, end} or null. */
export function drawArrows(context, state, viewport, selected) {
  for (const [index, { handle, target }] of inOrder(state.pairs, selected)) {
    if (target) drawArrow(context, toView(viewport, handle), toView(viewport, target), selected?.index === index);
  }
}

/** Draw both ends of every pair; `grabbed` is the end that is being placed right now, {index, end} or null. */
export function drawEnds(context, state, viewport, selected, grabbed) {
  for (const [index, { handle, target }] of inOrder(state.pairs, selected)) {
    for (const [end, point, colour] of [["target", target, TARGET_COLOUR], ["handle", handle, HANDLE_COLOUR]]) {
      if (!point) continue;
      drawMarker(context, toView(viewport, point), {
        label: String(index + 1),
        colour,
        pending: !target,
        selected: selected?.index === index && selected.end === end,
        hollow: grabbed?.index === index && grabbed.end === end,
      });
    }
  }
}

/** Draw the ring of every reach, and on the selected pair the grip that changes it. */
export function drawReaches(context, state, viewport, selected) {
  for (const [index, pair] of inOrder(state.pairs, selected)) {
    const isSelected = index === selected?.index && selected.end !== "pin";
    if (pair.reach) drawRing(context, toView(viewport, pair.handle), pair.reach * viewport.scale, isSelected);
    if (!isSelected || pendingIndex(state) >= 0) continue;
    context.save();
    context.translate(...reachGrip(pair, viewport));
    circle(context, 5, DARK, DARK, 1);
    circle(context, 3, HANDLE_COLOUR, LIGHT, 2);
    context.restore();
  }
}

/** Draw every pin: a diamond, so that colour is not all that tells it from handles and targets. */
export function drawPins(context, { pins }, viewport, selected) {
  pins.forEach((pin, index) => {
    context.save();
    context.translate(...toView(viewport, pin));
    if (selected?.end === "pin" && selected.index === index) {
      diamond(context, RADIUS + 5, null, DARK, 4);
      diamond(context, RADIUS + 5, null, SELECTED_COLOUR, 2);
    }
    diamond(context, RADIUS, null, DARK, 5);
    diamond(context, RADIUS, PIN_COLOUR, LIGHT, 2);
    context.restore();
  });
}

/** Draw the line from a handle that waits to where its target would land. */
export function drawPendingLine(context, from, to) {
  context.save();
  context.setLineDash([5, 4]);
  strokeTwice(context, () => segment(context, from, to), 1.5, LIGHT);
  context.restore();
}

/** Draw where each handle was tracked: lists of [x, y] in picture pixels. */
export function drawPaths(context, paths, viewport) {
  for (const path of paths) {
    const points = path.map((point) => toView(viewport, point));
    const line = () => {
      context.beginPath();
      points.forEach(([x, y]) => context.lineTo(x, y));
    };
    strokeTwice(context, line, 2, PATH_COLOUR);
    const [x, y] = points[points.length - 1];
    context.beginPath();
    context.arc(x, y, 3.5, 0, 2 * Math.PI);
    context.fillStyle = PATH_COLOUR;
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = DARK;
    context.stroke();
  }
}

/** Draw the brush's outline around `at`. */
export function drawBrush(context, at, radius, erase) {
  const ring = () => {
    context.beginPath();
    context.arc(...at, Math.max(radius, 1), 0, 2 * Math.PI);
  };
  context.save();
  if (erase) context.setLineDash([4, 3]);
  strokeTwice(context, ring, 1.5, LIGHT);
  context.restore();
}

/** [index, pair] of all, the selected one last and so on top. */
function inOrder(pairs, selected) {
  const entries = [...pairs.entries()];
  return selected && selected.end !== "pin" ? [...entries.toSpliced(selected.index, 1), entries[selected.index]] : entries;
}

function drawMarker(context, [x, y], { label, colour, pending, selected, hollow }) {
  context.save();
  context.translate(x, y);
  if (selected) {
    circle(context, RADIUS + 5, null, DARK, 4);
    circle(context, RADIUS + 5, null, SELECTED_COLOUR, 2);
  }
  if (hollow) {
    drawCrosshair(context, colour);
  } else {
    circle(context, RADIUS + 1, null, DARK, 4);
    circle(context, RADIUS, pending ? LIGHT : colour, LIGHT, 2);
    if (pending) {
      context.setLineDash([3.4, 2.43]);
      circle(context, RADIUS - 0.5, null, colour, 2);
      context.setLineDash([]);
    }
    context.fillStyle = pending ? colour : LIGHT;
    context.font = `700 ${label.length > 1 ? 8 : 10}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(label, 0, 0.5);
  }
  context.restore();
}

function drawRing(context, middle, radius, selected) {
  const ring = () => {
    context.beginPath();
    context.arc(...middle, radius, 0, 2 * Math.PI);
  };
  if (selected) {
    ring();
    context.fillStyle = "rgba(255, 255, 255, 0.12)";
    context.fill();
  }
  strokeTwice(context, ring, selected ? 2.5 : 1.5, selected ? SELECTED_COLOUR : "#ff7b81");
}

function diamond(context, half, fill, stroke, width) {
  context.beginPath();
  for (const [x, y] of [[-half, 0], [0, -half], [half, 0], [0, half]]) context.lineTo(x, y);
  context.closePath();
  paint(context, fill, stroke, width);
}

/** While an end is placed, its very pixel is to be seen. */
function drawCrosshair(context, colour) {
  circle(context, RADIUS + 3, null, LIGHT, 2);
  circle(context, RADIUS + 1, null, colour, 2.5);
  const cross = () => {
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(3 * dx, 3 * dy);
      context.lineTo(RADIUS * dx, RADIUS * dy);
    }
  };
  strokeTwice(context, cross, 1.2, LIGHT);
}

function drawArrow(context, from, to, selected) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const length = Math.hypot(dx, dy);
  if (length <= RADIUS * 2) return;
  const [ux, uy] = [dx / length, dy / length];
  const tip = [to[0] - ux * (RADIUS + 3), to[1] - uy * (RADIUS + 3)];
  const start = [from[0] + ux * RADIUS, from[1] + uy * RADIUS];
  const room = Math.hypot(tip[0] - start[0], tip[1] - start[1]);
  const head = Math.min(9, room);
  const neck = [tip[0] - ux * head, tip[1] - uy * head];
  const wing = head * 0.55;
  const triangle = () => {
    context.beginPath();
    context.moveTo(...tip);
    context.lineTo(neck[0] - uy * wing, neck[1] + ux * wing);
    context.lineTo(neck[0] + uy * wing, neck[1] - ux * wing);
    context.closePath();
  };
  const width = selected ? 3.5 : 2.5;
  context.lineJoin = "round";
  triangle();
  context.lineWidth = 4;
  context.strokeStyle = DARK;
  context.stroke();
  strokeTwice(context, () => segment(context, start, neck), width, LIGHT);
  triangle();
  context.fillStyle = LIGHT;
  context.fill();
}

function strokeTwice(context, trace, width, colour) {
  context.lineCap = "round";
  context.lineJoin = "round";
  trace();
  context.lineWidth = width + 2.5;
  context.strokeStyle = DARK;
  context.stroke();
  trace();
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
}

function segment(context, from, to) {
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
}

function circle(context, radius, fill, stroke, width) {
  context.beginPath();
  context.arc(0, 0, radius, 0, 2 * Math.PI);
  paint(context, fill, stroke, width);
}

function paint(context, fill, stroke, width) {
  if (fill) {
    context.fillStyle = fill;
    context.fill();
  }
  context.lineWidth = width;
  context.strokeStyle = stroke;
  context.stroke();
}

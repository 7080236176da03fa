import assert from "node:assert/strict";
import { test } from "node:test";

import * as geometry from "../../js/point_picker/model/geometry.js";
import { randomNumbers } from "./random.mjs";

const picture = { width: 400, height: 100 };
const view = { width: 224, height: 224 };
const near = (a, b) => a.forEach((value, axis) => assert.ok(Math.abs(value - b[axis]) < 1e-6, `${a} is not ${b}`));

test("fit shows the whole picture, centred, with a margin", () => {
  const viewport = geometry.fitViewport(picture, view);
  near(geometry.toView(viewport, [0, 0]), [12, 87]);
  near(geometry.toView(viewport, [400, 100]), [212, 137]);
});

test("zoom keeps the point under the pointer, and both ways through any viewport are inverse", () => {
  const random = randomNumbers(3);
  for (let round = 0; round < 200; round++) {
    const big = { width: 1000, height: 1000 };
    let viewport = geometry.zoomedAt(geometry.fitViewport(big, view), 8, [112, 112], big, view);
    const at = [60 + 100 * random(), 60 + 100 * random()];
    const under = geometry.toPicture(viewport, at);
    near(geometry.toView(viewport, under), at);
    viewport = geometry.zoomedAt(viewport, 0.8 + random(), at, big, view);
    near(geometry.toPicture(viewport, at), under);
  }
});

test("zoom stays between the whole picture and the largest scale; panning leaves no gap", () => {
  const fit = geometry.fitViewport(picture, view);
  assert.deepEqual(geometry.zoomedAt(fit, 0.01, [0, 0], picture, view), fit);
  const close = geometry.zoomedAt(fit, 1e9, [112, 112], picture, view);
  assert.equal(close.scale, geometry.MAX_SCALE);
  const far = geometry.pannedBy(close, 1e9, -1e9, picture, view);
  near(geometry.toView(far, [0, 100]), [12, 212]);
  assert.deepEqual(geometry.pannedBy(fit, 50, 50, picture, view), fit, "all of it fits: nothing to pan");
});

test("the nearest end is hit; an arrow only where no end is", () => {
  const identity = { scale: 1, x: 0, y: 0 };
  const pairs = [
    { handle: [10, 50], target: [90, 50] },
    { handle: [14, 50], target: null },
  ];
  const hit = (at) => geometry.hitTest({ pairs, pins: [] }, identity, at, 12);
  assert.deepEqual(hit([9, 50]), { index: 0, end: "handle" });
  assert.deepEqual(hit([15, 52]), { index: 1, end: "handle" });
  assert.deepEqual(hit([85, 45]), { index: 0, end: "target" });
  assert.deepEqual(hit([50, 55]), { index: 0, end: "arrow" });
  assert.equal(hit([50, 57]), null);
});

test("a ring is hit on its line, the selected pair's reach also by its grip, and neither while a handle waits", () => {
  const identity = { scale: 1, x: 0, y: 0 };
  const pairs = [
    { handle: [200, 200], target: [300, 200], reach: 60 },
    { handle: [500, 200], target: [500, 300] },
  ];
  const hit = (at, selected, state = { pairs, pins: [] }) => geometry.hitTest(state, identity, at, 12, selected);
  assert.deepEqual(hit([200, 265]), { index: 0, end: "reach" });
  assert.deepEqual(hit([200, 135]), { index: 0, end: "reach" });
  assert.equal(hit([200, 240]), null, "what the ring is around can be pressed");
  const [x, y] = geometry.reachGrip(pairs[1], identity);
  assert.ok(x === 500 && y < 200, "away from the target");
  assert.equal(hit([x, y - 5]), null);
  assert.deepEqual(hit([x, y - 5], { index: 1, end: "target" }), { index: 1, end: "reach" });
  near(geometry.reachGrip(pairs[0], identity), [140, 200]);
  const waiting = { pairs: [...pairs, { handle: [50, 50], target: null }], pins: [] };
  assert.equal(hit([200, 265], { index: 0, end: "handle" }, waiting), null);
});

test("pins are hit like handles", () => {
  const state = { pairs: [{ handle: [10, 10], target: [60, 10] }], pins: [[30, 12], [90, 90]] };
  const hit = (at) => geometry.hitTest(state, { scale: 1, x: 0, y: 0 }, at, 12);
  assert.deepEqual(hit([31, 12]), { index: 0, end: "pin" });
  assert.deepEqual(hit([95, 85]), { index: 1, end: "pin" });
  assert.deepEqual(hit([12, 12]), { index: 0, end: "handle" });
});

test("hit areas do not shrink with the picture's zoom", () => {
  const pairs = [{ handle: [200, 200], target: [800, 800] }];
  for (const scale of [0.05, 1, 20]) {
    const viewport = { scale, x: 3, y: 4 };
    const [x, y] = geometry.toView(viewport, [200, 200]);
    assert.deepEqual(geometry.hitTest({ pairs, pins: [] }, viewport, [x - 11, y], 12), { index: 0, end: "handle" });
    assert.equal(geometry.hitTest({ pairs, pins: [] }, viewport, [x - 13, y], 12), null);
  }
});

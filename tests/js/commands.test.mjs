import assert from "node:assert/strict";
import { test } from "node:test";

import * as commands from "../../js/point_picker/model/commands.js";
import { MAX_PAIRS, MAX_PINS, parsePoints, serialisePoints } from "../../js/point_picker/model/points_text.js";
import { randomNumbers } from "./random.mjs";
import { randomCommand } from "./random_command.mjs";

const empty = commands.emptyState(100, 50);
const withPairs = (...pairs) => ({ ...empty, pairs: pairs.map(([handle, target]) => ({ handle, target })) });

test("a handle waits for its target, and only one does", () => {
  const waiting = commands.addHandle(empty, [10, 20]);
  assert.deepEqual(waiting.pairs, [{ handle: [10, 20], target: null }]);
  assert.equal(commands.pendingIndex(waiting), 0);
  assert.equal(commands.addHandle(waiting, [30, 30]), waiting);
  const whole = commands.setEnd(waiting, 0, "target", [40, 20]);
  assert.deepEqual(whole.pairs, [{ handle: [10, 20], target: [40, 20] }]);
  assert.equal(commands.pendingIndex(whole), -1);
});

test("points land inside the picture, to a tenth of a pixel", () => {
  const state = commands.setEnd(commands.addHandle(empty, [-5, 70]), 0, "target", [33.333, 1e9]);
  assert.deepEqual(state.pairs, [{ handle: [0, 50], target: [33.3, 50] }]);
});

test("a pair moves as a whole and stops at the border", () => {
  const state = withPairs([[10, 10], [90, 40]]);
  assert.deepEqual(commands.movePair(state, 0, 5, 5).pairs, [{ handle: [15, 15], target: [95, 45] }]);
  assert.deepEqual(commands.movePair(state, 0, 500, -500).pairs, [{ handle: [20, 0], target: [100, 30] }]);
  assert.deepEqual(commands.movePair(withPairs([[10, 10], null]), 0, 1, 2).pairs, [{ handle: [11, 12], target: null }]);
});

test("no pair beyond the 64th", () => {
  const full = withPairs(...Array.from({ length: MAX_PAIRS }, () => [[1, 1], [2, 2]]));
  assert.equal(commands.addHandle(full, [3, 3]), full);
});

test("a reach belongs to its pair; 0 takes it away", () => {
  const state = withPairs([[10, 10], [20, 10]], [[30, 30], null]);
  const reaching = commands.setReach(state, 0, 12.34);
  assert.deepEqual(reaching.pairs, [{ handle: [10, 10], target: [20, 10], reach: 12.3 }, state.pairs[1]]);
  assert.equal(commands.setReach(reaching, 0, 12.31), reaching, "the same reach is no step");
  assert.equal(commands.setReach(state, 0, 0), state);
  assert.deepEqual(commands.setReach(reaching, 0, 0).pairs, state.pairs);
  assert.deepEqual(commands.setReach(reaching, 0, -3).pairs, state.pairs);
  assert.equal(commands.setReach(state, 1, 0.2).pairs[1].reach, 1, "a ring that can be seen");
  assert.equal(commands.setReach(state, 1, 1e9).pairs[1].reach, 65536);
  assert.equal(commands.movePair(reaching, 0, 5, 5).pairs[0].reach, 12.3);
  assert.equal(commands.setEnd(reaching, 0, "handle", [1, 1]).pairs[0].reach, 12.3);
});

test("a reach grows from none to a tenth of the picture and shrinks back to none", () => {
  const state = withPairs([[10, 10], [20, 10]]);
  assert.equal(commands.growReach(state, 0, 0.9), state);
  const begun = commands.growReach(state, 0, 1.1);
  assert.equal(begun.pairs[0].reach, 5);
  assert.equal(commands.growReach(begun, 0, 2).pairs[0].reach, 10);
  let shrunk = begun;
  for (let step = 0; step < 40; step++) shrunk = commands.growReach(shrunk, 0, 1 / 1.1);
  assert.deepEqual(shrunk.pairs, state.pairs);
});

test("pins are placed, moved and removed inside the picture, at most 64", () => {
  const one = commands.addPin(empty, [-5, 20]);
  assert.deepEqual(one.pins, [[0, 20]]);
  const two = commands.addPin(one, [50, 25]);
  assert.deepEqual(commands.setEnd(two, 0, "pin", [7, 99]).pins, [[7, 50], [50, 25]]);
  assert.deepEqual(commands.removeAt(two, { index: 0, end: "pin" }).pins, [[50, 25]]);
  assert.deepEqual(commands.removeAllPoints({ ...two, ...withPairs([[1, 1], [2, 2]]), pins: two.pins }), empty);
  const full = { ...empty, pins: Array(MAX_PINS).fill([1, 1]) };
  assert.equal(commands.addPin(full, [2, 2]), full);
});

test("reaches and pins are scaled with the picture, and pins that do not fit are counted", () => {
  const pairs = [{ handle: [10, 10], target: [40, 40], reach: 10 }];
  const state = { ...empty, pairs, pins: [[50, 25], [90, 10]] };
  const { state: doubled } = commands.fittedToPicture(state, { width: 200, height: 100 });
  assert.equal(doubled.pairs[0].reach, 20);
  assert.deepEqual(doubled.pins, [[100, 50], [180, 20]]);
  const { state: fitted, lost } = commands.fittedToPicture(state, { width: 60, height: 400 });
  assert.equal(lost, 1);
  assert.deepEqual(fitted.pins, [[50, 25]]);
  assert.deepEqual(fitted.pairs, pairs);
});

test("removing keeps the others in order", () => {
  const state = withPairs([[1, 1], [2, 2]], [[3, 3], [4, 4]], [[5, 5], null]);
  assert.deepEqual(commands.removePair(state, 1).pairs.map((pair) => pair.handle[0]), [1, 5]);
  assert.deepEqual(commands.removeAllPoints(state).pairs, []);
});

test("the mask is the list of what was done to it", () => {
  const stroke = { erase: false, diameter: 8, points: [[1, 1], [2, 2]] };
  const painted = commands.paint(empty, stroke);
  assert.deepEqual(painted.mask, [{ kind: "stroke", ...stroke }]);
  const inverted = commands.invertMask(painted);
  assert.deepEqual(inverted.mask.at(-1), { kind: "invert" });
  assert.deepEqual(commands.invertMask(inverted).mask, painted.mask);
  assert.deepEqual(commands.clearMask(inverted).mask, []);
  assert.deepEqual(commands.maskFromFile(painted, "a.png [input]").mask, [{ kind: "file", name: "a.png [input]" }]);
  assert.deepEqual(commands.maskFromFile(painted, "").mask, []);
});

test("another picture of the same shape scales everything", () => {
  const state = commands.paint(withPairs([[10, 10], [90, 40]]), { erase: false, diameter: 4, points: [[50, 25]] });
  const { state: fitted, lost } = commands.fittedToPicture(state, { width: 200, height: 100 });
  assert.equal(lost, 0);
  assert.deepEqual(fitted.pairs, [{ handle: [20, 20], target: [180, 80] }]);
  assert.deepEqual(fitted.mask[0].points, [[100, 50]]);
  assert.equal(fitted.mask[0].diameter, 8);
});

test("another picture of another shape keeps what fits and counts the rest", () => {
  const state = { ...withPairs([[10, 10], [40, 40]], [[10, 10], [90, 40]], [[5, 45], null]), mask: [{ kind: "file", name: "m" }] };
  const { state: fitted, lost } = commands.fittedToPicture(state, { width: 60, height: 400 });
  assert.equal(lost, 1);
  assert.deepEqual(fitted.pairs.map((pair) => pair.handle), [[10, 10], [5, 45]]);
  assert.deepEqual(fitted.mask, [{ kind: "file", name: "m", width: 100, height: 50 }], "painted pixels stay where they are");
  assert.deepEqual([fitted.width, fitted.height], [60, 400]);
});

test("random commands keep every point inside, at most 64 pairs and pins, one waiting; the text reads back", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = randomNumbers(seed);
    let state = empty;
    for (let step = 0; step < 120; step++) {
      const before = JSON.stringify(state);
      const next = randomCommand(state, random);
      assert.equal(JSON.stringify(state), before, "a state is never changed in place");
      state = next;
      assert.ok(state.pairs.length <= MAX_PAIRS && state.pins.length <= MAX_PINS);
      assert.ok(state.pairs.filter((pair) => !pair.target).length <= 1);
      const ends = state.pairs.flatMap((pair) => [pair.handle, pair.target]).filter(Boolean);
      for (const [x, y] of [...ends, ...state.pins]) {
        assert.ok(x >= 0 && x <= state.width && y >= 0 && y <= state.height, `${x}, ${y} in ${state.width} x ${state.height}`);
      }
      if (!state.pairs.length && !state.pins.length) continue;
      const { width, height, pairs, pins } = state;
      assert.deepEqual(parsePoints(serialisePoints(state)), { width, height, pairs, pins });
    }
  }
});

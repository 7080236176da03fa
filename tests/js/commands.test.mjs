import assert from "node:assert/strict";
import { test } from "node:test";

import * as commands from "../../js/point_picker/model/commands.js";
import { MAX_PAIRS, parsePoints, serialisePoints } from "../../js/point_picker/model/points_text.js";
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

test("removing keeps the others in order", () => {
  const state = withPairs([[1, 1], [2, 2]], [[3, 3], [4, 4]], [[5, 5], null]);
  assert.deepEqual(commands.removePair(state, 1).pairs.map((pair) => pair.handle[0]), [1, 5]);
  assert.deepEqual(commands.removeAllPairs(state).pairs, []);
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

test("random commands keep every point inside, at most 64 pairs, one waiting; the text reads back", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = randomNumbers(seed);
    let state = empty;
    for (let step = 0; step < 120; step++) {
      const before = JSON.stringify(state);
      const next = randomCommand(state, random);
      assert.equal(JSON.stringify(state), before, "a state is never changed in place");
      state = next;
      assert.ok(state.pairs.length <= MAX_PAIRS);
      assert.ok(state.pairs.filter((pair) => !pair.target).length <= 1);
      for (const [x, y] of state.pairs.flatMap((pair) => [pair.handle, pair.target]).filter(Boolean)) {
        assert.ok(x >= 0 && x <= state.width && y >= 0 && y <= state.height, `${x}, ${y} in ${state.width} x ${state.height}`);
      }
      if (!state.pairs.length) continue;
      const { width, height, pairs } = state;
      assert.deepEqual(parsePoints(serialisePoints(state)), { width, height, pairs });
    }
  }
});

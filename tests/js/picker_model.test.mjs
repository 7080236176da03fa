import assert from "node:assert/strict";
import { test } from "node:test";

import * as commands from "../../js/point_picker/model/commands.js";
import { PickerModel } from "../../js/point_picker/model/picker_model.js";
import { randomNumbers } from "./random.mjs";
import { randomCommand } from "./random_command.mjs";

const stage = { width: 100, height: 50 };
const stored = (pairs, width = 100, height = 50) => JSON.stringify({ version: 1, width, height, pairs });
const pair = (handle = [10, 10], target = [20, 20]) => ({ handle, target });

function loaded(text = stored([pair()])) {
  const model = new PickerModel(stage);
  model.load(text);
  return model;
}

test("a new picker stores nothing", () => {
  const model = new PickerModel();
  assert.equal(model.text, "");
  assert.equal(model.maskName, "");
  assert.deepEqual(model.stage, { width: 512, height: 512 });
});

test("a loaded text is stored as it was until something changes", () => {
  const text = ` ${stored([pair()])} `;
  const model = loaded(text);
  assert.equal(model.text, text);
  assert.deepEqual(model.state.pairs, [pair()]);
  model.commit(commands.setEnd(model.state, 0, "target", [30, 30]));
  assert.equal(model.text, stored([pair([10, 10], [30, 30])]));
  model.undo();
  assert.equal(model.text, text);
});

test("a text that cannot be read is kept, explained, and gives way to new points", () => {
  const text = '{"version": 7, "pairs": []}';
  const model = loaded(text);
  assert.equal(model.text, text);
  assert.match(model.problem, /version 7/);
  assert.deepEqual(model.state.pairs, []);
  model.commit(commands.addHandle(model.state, [1, 2]));
  assert.equal(model.problem, "");
  assert.equal(model.text, stored([{ handle: [1, 2], target: null }]));
  model.undo();
  assert.equal(model.text, text);
});

test("painting the mask keeps a text that cannot be read", () => {
  const text = '{"version": 7, "pairs": []}';
  const model = loaded(text);
  const stroke = { erase: false, diameter: 4, points: [[10, 10]] };
  model.commit(commands.paint(model.state, stroke));
  assert.equal(model.text, text);
  assert.match(model.problem, /version 7/);
  assert.equal(model.state.mask.length, 1);
  model.setStage({ width: 200, height: 100 });
  assert.equal(model.text, text);
  assert.deepEqual(model.state.mask[0].points, [[20, 20]], "the mask keeps its place");
  model.commit(commands.addHandle(model.state, [1, 2]));
  assert.equal(model.problem, "");
  assert.equal(model.text, stored([{ handle: [1, 2], target: null }], 200, 100));
});

test("the selection stays with its pair when another one goes or comes back", () => {
  for (const size of [stage, { width: 200, height: 100 }]) {
    const model = loaded(stored([pair([1, 1]), pair([2, 2]), pair([3, 3])]));
    model.setStage(size);
    model.select({ index: 1, end: "target" });
    model.commit(commands.removePair(model.state, 0));
    assert.deepEqual(model.selected, { index: 0, end: "target" });
    model.commit(commands.removePair(model.state, model.selected.index));
    assert.deepEqual(model.state.pairs.map(({ handle }) => handle[0] * (100 / size.width)), [3]);
  }
  const model = loaded(stored([pair([1, 1]), pair([2, 2])]));
  model.commit(commands.removePair(model.state, 0));
  model.select({ index: 0, end: "handle" });
  model.undo();
  assert.deepEqual(model.selected, { index: 1, end: "handle" });
});

test("a gesture is one step, and nothing while it goes on or when it is cancelled", () => {
  const model = loaded();
  const seen = [];
  model.subscribe((kind) => seen.push(kind));
  const before = model.text;
  for (const x of [11, 12, 13]) model.preview(commands.setEnd(model.state, 0, "handle", [x, 10]));
  assert.equal(model.text, before);
  assert.equal(model.canUndo, false);
  model.commit();
  assert.deepEqual(seen, ["change", "change", "change", "commit"]);
  assert.deepEqual(model.state.pairs[0].handle, [13, 10]);
  model.preview(commands.removePair(model.state, 0));
  model.cancel();
  assert.deepEqual(model.state.pairs[0].handle, [13, 10]);
  model.undo();
  assert.equal(model.text, before);
  model.redo();
  assert.deepEqual(model.state.pairs[0].handle, [13, 10]);
});

test("a commit without a change is no step", () => {
  const model = loaded();
  const seen = [];
  model.subscribe((kind) => seen.push(kind));
  model.commit(model.state);
  assert.equal(model.canUndo, false);
  assert.ok(!seen.includes("commit"));
});

test("undo and redo walk through random histories", () => {
  for (let seed = 1; seed <= 25; seed++) {
    const random = randomNumbers(seed);
    const model = new PickerModel(stage);
    const texts = [model.text];
    for (let step = 0; step < 60; step++) {
      const next = randomCommand(model.state, random, { resize: false });
      const before = model.state;
      model.commit(next);
      if (next !== before) texts.push(model.text);
    }
    const end = texts.length - 1;
    for (let step = end - 1; step >= 0; step--) {
      model.undo();
      assert.equal(model.text, texts[step]);
    }
    assert.equal(model.canUndo, false);
    for (let step = 1; step <= end; step++) {
      model.redo();
      assert.equal(model.text, texts[step]);
    }
    assert.equal(model.canRedo, false);
  }
});

test("points of another size are shown scaled and stored as they were", () => {
  const text = stored([pair([100, 50], [200, 100])], 200, 100);
  const model = loaded(text);
  assert.deepEqual(model.state.pairs, [pair([50, 25], [100, 50])]);
  assert.equal(model.text, text);
  model.setStage({ width: 400, height: 200 }, true);
  assert.deepEqual(model.state.pairs, [pair([200, 100], [400, 200])]);
  assert.equal(model.text, text, "they did not belong to the picture that went");
});

test("tracks without a size are pixels of whatever picture is shown, until edited", () => {
  const model = loaded("[[[10,10],[20,20]]]");
  model.setStage({ width: 30, height: 30 }, true);
  assert.deepEqual(model.state.pairs, [pair()]);
  model.setStage({ width: 15, height: 15 }, true);
  assert.match(model.problem, /target of pair 1/);
  model.setStage(stage, true);
  assert.equal(model.problem, "");
  assert.equal(model.text, "[[[10,10],[20,20]]]");
  model.commit(commands.removePair(model.state, 0));
  assert.equal(model.text, "");
});

test("another picture keeps the pairs that fit, says how many do not, and undo has them back", () => {
  const model = loaded(stored([pair(), pair([10, 10], [90, 10])]));
  const before = model.text;
  assert.equal(model.setStage({ width: 60, height: 60 }, true), 1);
  assert.equal(model.text, stored([pair()], 60, 60));
  model.undo();
  assert.equal(model.text, before);
  assert.deepEqual(model.stage, { width: 60, height: 60 });
});

test("another stage drops a pair that was being placed, and its selection", () => {
  const model = loaded(stored([pair()]));
  model.preview(commands.addHandle(model.state, [50, 50]));
  model.select({ index: 1, end: "handle" });
  model.setStage({ width: 200, height: 100 });
  assert.equal(model.state.pairs.length, 1);
  assert.equal(model.selected, null);
});

test("losing the picture loses no point", () => {
  const model = loaded(stored([pair(), pair([10, 10], [90, 10])]));
  const before = model.text;
  model.setStage({ width: 20, height: 20 });
  assert.equal(model.text, before);
  model.setStage(stage);
  assert.deepEqual(model.state.pairs, [pair(), pair([10, 10], [90, 10])]);
});

test("the mask's name follows the mask through painting, storing, undo and redo", () => {
  const model = loaded();
  model.loadMask("old.png [input]");
  assert.equal(model.maskName, "old.png [input]");
  assert.equal(model.maskIsDirty, false);
  model.commit(commands.paint(model.state, { erase: false, diameter: 4, points: [[1, 1]] }));
  assert.equal(model.maskIsDirty, true);
  assert.equal(model.maskName, "old.png [input]");
  model.maskStored(model.maskToStore.mask, "new.png [input]");
  assert.equal(model.maskName, "new.png [input]");
  assert.equal(model.maskIsDirty, false);
  model.undo();
  assert.equal(model.maskName, "old.png [input]");
  model.redo();
  assert.equal(model.maskName, "new.png [input]");
  model.commit(commands.clearMask(model.state));
  assert.equal(model.maskName, "");
});

test("a mask stored late does not rename a newer one", () => {
  const model = loaded();
  model.commit(commands.paint(model.state, { erase: false, diameter: 4, points: [[1, 1]] }));
  const { mask } = model.maskToStore;
  model.commit(commands.paint(model.state, { erase: false, diameter: 4, points: [[2, 2]] }));
  model.maskStored(mask, "first.png [input]");
  assert.equal(model.maskIsDirty, true);
  model.undo();
  assert.equal(model.maskName, "first.png [input]");
});

test("loading what is there already changes nothing", () => {
  const model = loaded();
  model.commit(commands.removePair(model.state, 0));
  model.load(model.text);
  model.loadMask(model.maskName);
  assert.equal(model.canUndo, true);
});

test("loading points keeps the mask, loading a mask keeps the points", () => {
  const model = loaded();
  model.loadMask("m.png [input]");
  model.load(stored([pair([1, 1], [2, 2])]));
  assert.equal(model.maskName, "m.png [input]");
  model.loadMask("");
  assert.equal(model.text, stored([pair([1, 1], [2, 2])]));
});

test("the selection follows its pair and goes with it", () => {
  const model = loaded(stored([pair(), pair([5, 5], [6, 6])]));
  model.select({ index: 1, end: "target" });
  model.commit(commands.removePair(model.state, 1));
  assert.equal(model.selected, null);
  model.preview(commands.addHandle(model.state, [1, 1]));
  model.select({ index: 1, end: "handle" });
  model.cancel();
  assert.equal(model.selected, null);
});

test("the own size is that of the picture the points were placed on", () => {
  const model = new PickerModel(stage);
  assert.equal(model.ownSize, null);
  model.load(stored([pair()], 200, 100));
  assert.deepEqual(model.ownSize, { width: 200, height: 100 });
  model.load("[[[10,10],[20,20]]]");
  assert.equal(model.ownSize, null, "tracks carry none");
});

test("reaches and pins are stored, loaded, undone and redone", () => {
  const model = loaded();
  const plain = model.text;
  model.commit(commands.setReach(model.state, 0, 8));
  model.commit(commands.addPin(model.state, [5, 5]));
  const { version, pairs, pins } = JSON.parse(model.text);
  assert.deepEqual([version, pairs[0].reach, pins], [2, 8, [[5, 5]]]);
  const other = loaded(model.text);
  assert.deepEqual(other.state, { ...other.state, pairs, pins });
  model.undo();
  model.undo();
  assert.equal(model.text, plain);
  model.redo();
  model.redo();
  assert.equal(model.text, other.text);
});

test("pins without a pair are kept, and so is the picture's size with them", () => {
  const model = new PickerModel(stage);
  model.commit(commands.addPin(model.state, [5, 5]));
  const other = new PickerModel({ width: 10, height: 10 });
  other.load(model.text);
  assert.deepEqual(other.ownSize, stage);
  assert.equal(other.text, model.text);
});

test("a selected pin stays selected when one before it goes, and not when it goes itself", () => {
  const model = loaded();
  for (const x of [1, 2, 3]) model.commit(commands.addPin(model.state, [x, x]));
  model.select({ index: 2, end: "pin" });
  model.commit(commands.removeAt(model.state, { index: 0, end: "pin" }));
  assert.deepEqual(model.selected, { index: 1, end: "pin" });
  model.commit(commands.removeAt(model.state, { index: 1, end: "pin" }));
  assert.equal(model.selected, null);
});

test("replaced points are one step, keep the mask, and are none where nothing moved", () => {
  const model = loaded();
  model.commit(commands.paint(model.state, { erase: false, diameter: 4, points: [[10, 10]] }));
  const { mask } = model.state;
  const moved = stored([pair([12, 10], [22, 20])]);
  model.replacePoints(moved);
  assert.equal(model.text, moved);
  assert.equal(model.state.mask, mask);
  let commits = 0;
  model.subscribe((kind) => (commits += kind === "commit"));
  model.replacePoints(` ${moved} `);
  assert.equal(commits, 0);
  model.undo();
  assert.deepEqual(model.state.pairs, [pair()]);
});

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { MAX_TEXT_BYTES, parsePoints, PointsError, serialisePoints } from "../../js/point_picker/model/points_text.js";

const strings = JSON.parse(readFileSync(new URL("../support/point_strings.json", import.meta.url), "utf8"));

function parse({ text, stage }) {
  return parsePoints(text, stage && { width: stage[0], height: stage[1] });
}

function plain({ width, height, pairs, pins }) {
  const ends = pairs.map(({ handle, target }) => [handle, target]);
  return { size: [width, height], pairs: ends, reaches: pairs.map(({ reach }) => reach ?? null), pins };
}

for (const kind of ["valid", "pending"]) {
  for (const example of strings[kind]) {
    test(`reads, ${kind}: ${example.name}`, () => {
      const read = parse(example);
      const { size, pairs, reaches = pairs.map(() => null), pins = [] } = example;
      assert.deepEqual(plain(read), { size, pairs, reaches, pins });
      assert.deepEqual(parsePoints(serialisePoints(read)), read, "what is written is read back");
    });
  }
}

for (const example of strings.refused) {
  test(`refuses: ${example.name}`, () => {
    assert.throws(() => parse(example), (error) => {
      assert.ok(error instanceof PointsError, `${error}`);
      assert.ok(error.message.includes(example.says), error.message);
      return true;
    });
  });
}

test("refuses a text that is too long, before reading it", () => {
  assert.throws(() => parsePoints("[".repeat(MAX_TEXT_BYTES + 1)), PointsError);
  assert.throws(() => parsePoints(`"${"\u{1F600}".repeat(MAX_TEXT_BYTES / 4)}"`), /longer/);
});

test("no pair and no pin is the empty string", () => {
  assert.equal(serialisePoints({ width: 8, height: 8, pairs: [], pins: [] }), "");
});

test("what has neither reach nor pin is written as version 1", () => {
  const pair = { handle: [1, 2], target: [3, 4] };
  const versionOf = (pairs, pins) => JSON.parse(serialisePoints({ width: 8, height: 8, pairs, pins })).version;
  assert.equal(versionOf([pair], []), 1);
  assert.equal(versionOf([pair, { ...pair, reach: 2 }], []), 2);
  assert.equal(versionOf([pair], [[1, 1]]), 2);
  assert.equal(versionOf([], [[1, 1]]), 2);
});

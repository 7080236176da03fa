import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { MAX_TEXT_BYTES, parsePoints, PointsError, serialisePoints } from "../../js/point_picker/model/points_text.js";

const strings = JSON.parse(readFileSync(new URL("../support/point_strings.json", import.meta.url), "utf8"));

function parse({ text, stage }) {
  return parsePoints(text, stage && { width: stage[0], height: stage[1] });
}

function plain({ width, height, pairs }) {
  return { size: [width, height], pairs: pairs.map(({ handle, target }) => [handle, target]) };
}

for (const kind of ["valid", "pending"]) {
  for (const example of strings[kind]) {
    test(`reads, ${kind}: ${example.name}`, () => {
      const read = parse(example);
      assert.deepEqual(plain(read), { size: example.size, pairs: example.pairs });
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

test("no pair is the empty string", () => {
  assert.equal(serialisePoints({ width: 8, height: 8, pairs: [] }), "");
});

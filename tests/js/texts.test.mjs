import assert from "node:assert/strict";
import { test } from "node:test";

import { LANGUAGES, textsFor } from "../../js/point_picker/texts/texts.js";

const { en, ...others } = LANGUAGES;
const EXAMPLES = ["7", "13"];
const said = (text) => (typeof text === "function" ? text(...EXAMPLES.slice(0, text.length)) : text);

for (const [language, texts] of Object.entries(others)) {
  test(`${language} has every text of the picker, with every number and name in it`, () => {
    assert.deepEqual(Object.keys(texts), Object.keys(en));
    for (const [key, text] of Object.entries(en)) {
      assert.equal(typeof texts[key], typeof text, key);
      for (const example of EXAMPLES) assert.equal(said(texts[key]).includes(example), said(text).includes(example), key);
      if (/[a-z]{3}/.test(said(text))) assert.notEqual(said(texts[key]), said(text), `${key} is English still`);
    }
  });

  test(`${language} calls points by the field's names and buttons by different ones`, () => {
    const [handle, target] = { zh: ["控制点", "目标点"], "zh-TW": ["控制點", "目標點"], ja: ["ハンドル点", "目標点"], ko: ["핸들 점", "목표 점"] }[language];
    assert.ok(texts.handleAt(1, "2").includes(handle) && texts.targetAt(1, "2").includes(target));
    const buttons = ["points", "pins", "paint", "erase", "reach", "remove", "removeAll", "invert", "clear", "showMask"];
    assert.equal(new Set(buttons.map((name) => texts[name])).size, buttons.length);
  });
}

test("the language is found by its tag; an unknown one is English", () => {
  assert.equal(textsFor("zh"), LANGUAGES.zh);
  assert.equal(textsFor("zh-Hans-SG"), LANGUAGES.zh);
  for (const tag of ["zh-TW", "zh-Hant", "zh-HK"]) assert.equal(textsFor(tag), LANGUAGES["zh-TW"], tag);
  assert.equal(textsFor("ja-JP"), LANGUAGES.ja);
  assert.equal(textsFor("ko"), LANGUAGES.ko);
  for (const tag of ["en-GB", "fr", undefined]) assert.equal(textsFor(tag), en);
});

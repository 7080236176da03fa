import assert from "node:assert/strict";
import test from "node:test";
import { fillFromPreset, followWidgets, settingsExtension } from "../../js/settings.js";

const PRESETS = {
  default: { iterations: 90, learning_rate: 0.22, propagation: "delta" },
  paper: { iterations: 60, learning_rate: 0.01, propagation: "replace" },
};

function widgets(preset, values) {
  return [{ name: "preset", value: preset }, ...Object.entries(values).map(([name, value]) => ({ name, value }))];
}

const valuesOf = (all) => Object.fromEntries(all.map(({ name, value }) => [name, value]));

test("choosing a preset fills every widget", () => {
  const all = widgets("paper", PRESETS.default);
  fillFromPreset(all, PRESETS);
  assert.deepEqual(valuesOf(all), { preset: "paper", ...PRESETS.paper });
});

test("choosing custom leaves the widgets as they are", () => {
  const all = widgets("custom", { ...PRESETS.default, iterations: 7 });
  fillFromPreset(all, PRESETS);
  assert.deepEqual(valuesOf(all), { preset: "custom", ...PRESETS.default, iterations: 7 });
});

test("changing any widget makes the preset custom, and rounding does not", () => {
  for (const [name, value] of Object.entries({ iterations: 91, learning_rate: 0.23, propagation: "replace" })) {
    const all = widgets("default", { ...PRESETS.default, [name]: value });
    followWidgets(all, PRESETS);
    assert.deepEqual(valuesOf(all), { preset: "custom", ...PRESETS.default, [name]: value });
  }
  const rounded = widgets("default", { ...PRESETS.default, learning_rate: 0.22000000000000003 });
  followWidgets(rounded, PRESETS);
  assert.equal(valuesOf(rounded).preset, "default");
});

test("the host's node does both, and keeps the callbacks that were there", () => {
  const extension = settingsExtension();
  extension.beforeRegisterNodeDef(null, {
    name: "DragNoiseSettings",
    input: { required: { preset: [["default", "paper", "custom"], { presets: PRESETS }] } },
  });
  extension.beforeRegisterNodeDef(null, { name: "KSampler", input: { required: {} } });
  const heard = [];
  const all = widgets("default", PRESETS.default);
  all[0].callback = (value) => heard.push(value);
  extension.nodeCreated({ comfyClass: "KSampler", widgets: undefined });
  extension.nodeCreated({ comfyClass: "DragNoiseSettings", widgets: all });
  const change = (name, value) => {
    const widget = all.find((each) => each.name === name);
    widget.value = value;
    widget.callback(value);
  };
  change("preset", "paper");
  assert.deepEqual(valuesOf(all), { preset: "paper", ...PRESETS.paper });
  assert.deepEqual(heard, ["paper"]);
  change("iterations", 7);
  assert.deepEqual(valuesOf(all), { preset: "custom", ...PRESETS.paper, iterations: 7 });
});

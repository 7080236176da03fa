/**
 * DragNoise Settings in the browser: what stands in a widget is what is used. Choosing a preset fills the widgets, and
 * changing a widget makes the preset "custom". The server refuses a preset whose widgets say otherwise.
 */

const NODE = "DragNoiseSettings";
const PRESET = "preset";
const CUSTOM = "custom";

/** Put the values of the chosen preset into `widgets`; "custom" leaves them as they are. */
export function fillFromPreset(widgets, presets) {
  const values = presets[presetOf(widgets).value] ?? {};
  for (const widget of widgets) {
    if (widget.name in values) widget.value = values[widget.name];
  }
}

/** Choose "custom" unless every one of `widgets` shows what the chosen preset holds. */
export function followWidgets(widgets, presets) {
  const values = presets[presetOf(widgets).value] ?? {};
  if (widgets.some(({ name, value }) => name in values && !isSame(value, values[name]))) {
    presetOf(widgets).value = CUSTOM;
  }
}

/** The extension that the host registers. */
export function settingsExtension() {
  let presets = {};
  return {
    name: "DragNoise.Settings",
    beforeRegisterNodeDef(_, { name, input }) {
      if (name === NODE) presets = input.required[PRESET][1].presets;
    },
    nodeCreated(node) {
      if (node.comfyClass !== NODE) return;
      for (const widget of node.widgets) {
        const react = widget.name === PRESET ? fillFromPreset : followWidgets;
        const before = widget.callback;
        widget.callback = function (...values) {
          before?.apply(this, values);
          react(node.widgets, presets);
          node.setDirtyCanvas?.(true);
        };
      }
    },
  };
}

function presetOf(widgets) {
  return widgets.find(({ name }) => name === PRESET);
}

// The host rounds numbers to the steps of its widgets.
function isSame(value, other) {
  return typeof other === "number" ? Math.abs(value - other) <= 1e-6 * Math.abs(other) : value === other;
}

/** The whole widget: stage, toolbar, keys and messages around one model. Knows nothing of ComfyUI. */

import * as commands from "../model/commands.js";
import { PickerModel } from "../model/picker_model.js";
import { textsFor } from "../texts/texts.js";
import { element, ensureStyleSheet } from "./elements.js";
import { Gestures } from "./gestures.js";
import { listenToKeys } from "./keyboard.js";
import { MaskLayer } from "./mask_layer.js";
import { Stage } from "./stage.js";
import { buildToolbar, MAX_BRUSH } from "./toolbar.js";

export class PointPicker {
  #bars;
  #notice = null;
  #readOnly = "";
  #isPanning = false;

  /**
   * canPaint: whether a mask can be painted, too. language: a tag such as "zh-TW"; other than ours means English.
   * loadMask(name): a promise of the picture that a stored mask's name stands for.
   */
  constructor({ loadMask, canPaint = true, language }) {
    ensureStyleSheet();
    this.texts = textsFor(language);
    this.model = new PickerModel();
    this.settings = { tool: "points", brush: 48, maskVisible: true, canPaint };
    this.mask = new MaskLayer(loadMask, (error, name) => this.#maskLoaded(error, name));
    this.stage = new Stage(this.model, this.settings, this.mask);
    this.gestures = new Gestures(this.stage, this);
    this.actions = this.#buildActions();
    this.say = this.say.bind(this);
    this.#bars = buildToolbar(this);
    this.keys = element("input", "dn-keys", {
      type: "text",
      readonly: "",
      inputmode: "none",
      autocomplete: "off",
      "aria-label": this.texts.keys,
    });
    this.stage.surface.append(this.keys);
    const attributes = { role: "group", "aria-label": this.texts.picker };
    this.root = element("div", "dragnoise-picker", attributes, this.#bars.top, this.stage.surface, this.#bars.bottom);
    this.root.addEventListener("mousedown", (event) => this.#keepFocus(event));
    this.root.addEventListener("click", (event) => {
      if (event.detail && event.target.closest("button")) this.focus();
    });
    listenToKeys(this);
    this.model.subscribe((kind) => this.#modelChanged(kind));
    this.stage.onViewportChange = () => this.#bars.refreshZoom();
    this.#refresh();
  }

  /** Start following the page; `disconnect` releases everything that is not this element's own. */
  connect() {
    this.stage.connect();
  }

  disconnect() {
    this.stage.disconnect();
  }

  /** Show `picture` (an image or canvas), or, with null, a blank stage with `blankText`; `size`: {width, height}. */
  setPicture(picture, size, blankText = "") {
    const otherPicture = this.stage.picture !== null && picture !== null;
    this.stage.picture = picture;
    this.stage.blankText = blankText;
    // A gesture under way is in pixels of the stage until now.
    if (size.width !== this.model.stage.width || size.height !== this.model.stage.height) this.gestures.cancel();
    const lost = this.model.setStage(size, otherPicture);
    if (lost) this.say(this.texts.lost(lost, `${size.width} x ${size.height}`));
    this.stage.stageChanged();
    this.#refresh();
  }

  /** Show where handles were tracked: lists of [x, y] in pixels of a picture of `size`; an empty list hides them. */
  setPaths(paths, size = this.model.stage) {
    const [x, y] = [this.model.stage.width / size.width, this.model.stage.height / size.height];
    this.stage.paths = paths.map((path) => path.map(([px, py]) => [px * x, py * y]));
    this.stage.render("points");
  }

  /** With a reason, points are shown but not changed; with "" they can be changed again. */
  setReadOnly(reason) {
    if (reason === this.#readOnly) return;
    this.#readOnly = reason;
    this.gestures.cancel();
    this.#refresh();
  }

  get isReadOnly() {
    return this.#readOnly !== "";
  }

  get isFocused() {
    return this.root.contains(document.activeElement);
  }

  get isPanning() {
    return this.#isPanning;
  }

  set isPanning(value) {
    this.#isPanning = value;
    this.stage.surface.style.cursor = value ? "grab" : "";
  }

  focus() {
    this.keys.focus({ preventScroll: true });
  }

  /** Tell the person something, until the next step; spoken by screen readers. */
  say(text, isBad = false) {
    this.#notice = { text, isBad };
    this.#refreshMessage();
  }

  showMask() {
    this.settings.maskVisible = true;
    this.#refresh();
    this.stage.render();
  }

  #buildActions() {
    const { model, settings, stage } = this;
    // A gesture under way goes on from the state that it began with, and would undo the step.
    const step = (action) => () => {
      this.gestures.settle();
      if (this.gestures.isActive) this.gestures.cancel();
      action();
    };
    return {
      setTool: (tool) => {
        this.gestures.cancel();
        settings.tool = tool;
        stage.hovered = null;
        stage.surface.style.cursor = "";
        this.#notice = null;
        this.#refresh();
        stage.render();
      },
      setBrush: (size) => {
        settings.brush = Math.min(Math.max(size, 1), MAX_BRUSH);
        this.#refresh();
        stage.render("points");
      },
      remove: step(() => model.selected && model.commit(commands.removeAt(model.state, model.selected))),
      removeAll: step(() => model.commit(commands.removeAllPoints(model.state))),
      toggleReach: step(() => {
        const { state, selected } = model;
        if (!selected || selected.end === "pin") return;
        const { reach } = state.pairs[selected.index];
        model.commit(reach ? commands.setReach(state, selected.index, 0) : commands.growReach(state, selected.index, 2));
      }),
      invertMask: step(() => {
        this.showMask();
        model.commit(commands.invertMask(model.state));
      }),
      clearMask: step(() => model.commit(commands.clearMask(model.state))),
      toggleMask: () => {
        settings.maskVisible = !settings.maskVisible;
        this.#refresh();
        stage.render();
      },
      undo: step(() => model.undo()),
      redo: step(() => model.redo()),
    };
  }

  /** Pressing a button or the stage must not take the focus away from the keys; the slider keeps its own. */
  #keepFocus(event) {
    if (event.target.type !== "range") event.preventDefault();
  }

  #modelChanged(kind) {
    if (kind === "commit") {
      this.#notice = null;
      this.stage.paths = [];
    }
    if (kind === "select" || this.model.isPreviewing) this.stage.render("points");
    else this.stage.render("mask", "points");
    if (this.model.isPreviewing) this.#refreshMessage();
    else this.#refresh();
  }

  #maskLoaded(error, name) {
    if (error) this.say(this.texts.maskNotShown(name, error.message), true);
    this.stage.render();
  }

  #refresh() {
    this.#bars.refresh(this.isReadOnly);
    this.#refreshMessage();
  }

  #refreshMessage() {
    const { text, isBad } = this.#currentMessage();
    const { message } = this.#bars;
    if (message.textContent === text) return;
    message.textContent = message.title = text;
    message.classList.toggle("dn-bad", isBad);
    message.classList.toggle("dn-notice", isBad || text === this.#notice?.text);
  }

  #currentMessage() {
    if (this.model.problem) return { text: this.texts.notShown(this.model.problem), isBad: true };
    if (this.#readOnly) return { text: this.#readOnly, isBad: false };
    return this.#notice ?? { text: hint(this.model, this.settings.tool, this.texts), isBad: false };
  }
}

function hint({ state, selected }, tool, texts) {
  if (tool === "paint") return texts.paintHint;
  if (tool === "erase") return texts.eraseHint;
  const pending = commands.pendingIndex(state);
  if (selected && commands.pointAt(state, selected)) return describePoint(state, selected, pending, texts);
  if (tool === "pins") return texts.pressPin;
  if (pending >= 0) return texts.pressTarget(pending + 1);
  const { pairs, pins } = state;
  const counts = [pairs.length && texts.pairCount(pairs.length), pins.length && texts.pinCount(pins.length)];
  return counts.filter(Boolean).join(texts.listed) || texts.pressAndDrag;
}

function describePoint(state, selected, pending, texts) {
  const { index, end } = selected;
  const place = commands.pointAt(state, selected).map((value) => Math.round(value * 10) / 10).join(", ");
  const reach = end === "handle" && state.pairs[index].reach;
  const around = reach ? texts.ringOf(Math.round(reach * 10) / 10) : "";
  const next = end === "handle" && index === pending ? texts.thenTarget : "";
  const named = { handle: texts.handleAt, target: texts.targetAt, pin: texts.pinAt }[end];
  return named(index + 1, place) + around + next;
}

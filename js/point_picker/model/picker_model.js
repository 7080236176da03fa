/**
 * The picker's model: what is on the picture, what is selected, what was done before. No DOM, no ComfyUI.
 *
 * Listeners get one of "change" (something to draw), "commit" (the stored values changed by a person's step; a
 * picture's change counts) and "select".
 */

import { emptyState, fittedToPicture, maskFromFile, pointAt, scaled } from "./commands.js";
import { History } from "./history.js";
import { parsePoints, PointsError, serialisePoints } from "./points_text.js";

export class PickerModel {
  #history;
  #draft = null;
  #shown = null;
  #listeners = new Set();
  #maskNames = new WeakMap();
  #lastMaskName = "";

  /** `stage`: {width, height} of the picture, or of the blank stage where there is none. */
  constructor(stage = { width: 512, height: 512 }) {
    this.stage = { width: stage.width, height: stage.height };
    this.selected = null;
    this.#history = new History(emptyState(stage.width, stage.height));
  }

  /** Call `listener(kind)` on every change; returns the function that ends it. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The state as shown: in pixels of the stage, a gesture under way included. */
  get state() {
    if (this.#draft) return this.#draft;
    const { state } = this.#history;
    if (this.#shown?.from !== state || this.#shown.stage !== this.stage) {
      this.#shown = { from: state, stage: this.stage, state: scaled(state, this.stage) };
    }
    return this.#shown.state;
  }

  /** The stored string. A text that was loaded stays as it is until the first change of a point. */
  get text() {
    const { source, ...state } = this.#history.state;
    return source ?? serialisePoints(state);
  }

  /** Why the loaded text cannot be shown, or "". */
  get problem() {
    return this.#history.state.problem ?? "";
  }

  /** The size of the picture that the stored points and mask were placed on; null when there are none. */
  get ownSize() {
    const { width, height, pairs, pins, mask, sizeless } = this.#history.state;
    return (pairs.length || pins.length || mask.length) && !sizeless ? { width, height } : null;
  }

  get canUndo() {
    return this.#history.canUndo;
  }

  get canRedo() {
    return this.#history.canRedo;
  }

  /** Replace all points by a stored text; forgets the history. A text that cannot be read is kept, see `problem`. */
  load(text) {
    if (text === this.text) return;
    this.#draft = null;
    this.#history = new History({ ...this.#read(text), mask: this.#history.state.mask });
    this.select(null);
    this.#notify("change");
  }

  /** Replace all points by those of a stored text, as one step of history; nothing happens where they are the same. */
  replacePoints(text) {
    const next = this.#read(text);
    if (serialisePoints(next) === serialisePoints(this.#history.state)) return;
    this.commit({ ...next, mask: scaled(this.#history.state, next).mask });
  }

  /** The stored name of the mask's file; "" without a mask. While `maskIsDirty`, the one before the last change. */
  get maskName() {
    return this.#nameOf(this.#history.state.mask) ?? this.#lastMaskName;
  }

  /** True while no file holds the mask as it is painted now. */
  get maskIsDirty() {
    return this.#nameOf(this.#history.state.mask) === undefined;
  }

  /** The mask as stored: its operations with the size of the picture they were painted on. */
  get maskToStore() {
    const { width, height, mask } = this.#history.state;
    return { width, height, mask };
  }

  /** Replace the mask by a stored file; forgets the history. */
  loadMask(name) {
    if (name === this.maskName) return;
    this.#history = new History(maskFromFile(this.#history.state, name));
    this.#lastMaskName = name;
    this.#notify("change");
  }

  /** Remember that `name` holds the mask that `maskToStore` returned. */
  maskStored(mask, name) {
    this.#maskNames.set(mask, name);
    if (mask === this.#history.state.mask) this.#lastMaskName = name;
    this.#notify("change");
  }

  /**
   * Show another stage. Points of another size are shown scaled, as Python reads them, and stored as they were.
   * When the points belong to the picture shown until now and `otherPicture` is shown instead, those that fit are
   * kept; returns how many pairs and pins did not.
   */
  setStage({ width, height }, otherPicture = false) {
    const old = this.stage;
    if (width === old.width && height === old.height) return 0;
    this.cancel();
    this.stage = { width, height };
    const { state } = this.#history;
    const belongs = state.width === old.width && state.height === old.height;
    const anything = state.pairs.length || state.pins.length || state.mask.length;
    if (state.source !== undefined && (state.problem || state.sizeless)) {
      this.#history = new History({ ...this.#read(state.source), mask: scaled(state, this.stage).mask });
    } else if (otherPicture && belongs && anything) {
      const { state: fitted, lost } = fittedToPicture(state, this.stage);
      if (lost) this.selected = null;
      this.commit(fitted);
      return lost;
    }
    this.#notify("change");
    return 0;
  }

  /** Show `state` while a gesture goes on, without making it a step. */
  preview(state) {
    this.#draft = state;
    this.#notify("change");
  }

  get isPreviewing() {
    return this.#draft !== null;
  }

  /** Make `state`, or what was previewed, one step of history. */
  commit(state = this.state) {
    const unchanged = state === this.#history.state || state === this.#shown?.state;
    const before = this.state;
    this.#draft = null;
    if (unchanged) return this.#notify("change");
    const { source, problem, sizeless, ...clean } = state;
    const { pairs, pins, width, height } = this.#history.state;
    const samePoints = state.pairs === pairs && state.pins === pins && state.width === width && state.height === height;
    this.#history.push(samePoints ? state : clean);
    this.#keepSelection(before, state);
    this.#notify("commit");
  }

  /** Drop what was previewed. */
  cancel() {
    if (!this.#draft) return;
    this.#draft = null;
    this.#keepSelection();
    this.#notify("change");
  }

  undo() {
    this.#step(() => this.#history.undo());
  }

  redo() {
    this.#step(() => this.#history.redo());
  }

  /** Select a point: {index, end: "handle" | "target" | "pin"}, or null for none. */
  select(selected) {
    this.selected = selected;
    this.#notify("select");
  }

  #step(move) {
    const before = this.#history.state;
    this.#draft = null;
    move();
    if (this.#history.state === before) return;
    this.#keepSelection(before, this.#history.state);
    this.#notify("commit");
  }

  #read(text) {
    const empty = { ...emptyState(this.stage.width, this.stage.height), source: text };
    if (!text.trim()) return empty;
    try {
      const points = parsePoints(text);
      return { ...empty, ...points };
    } catch (error) {
      if (!(error instanceof PointsError)) throw error;
    }
    try {
      return { ...empty, ...parsePoints(text, this.stage), sizeless: true };
    } catch (error) {
      if (!(error instanceof PointsError)) throw error;
      return { ...empty, problem: error.message };
    }
  }

  #nameOf(mask) {
    if (!mask.length) return "";
    if (mask.length === 1 && mask[0].kind === "file" && !mask[0].width) return mask[0].name;
    return this.#maskNames.get(mask);
  }

  /** The selection stays with its pair, or pin, when others before it go or come. */
  #keepSelection(before = this.state, after = this.state) {
    if (!this.selected) return;
    const list = this.selected.end === "pin" ? "pins" : "pairs";
    const index = after[list].indexOf(before[list][this.selected.index]);
    if (index >= 0) this.selected = { ...this.selected, index };
    if (pointAt(this.state, this.selected)) return;
    const handle = { index: this.selected.index, end: "handle" };
    this.selected = list === "pairs" && pointAt(this.state, handle) ? handle : null;
  }

  #notify(kind) {
    for (const listener of this.#listeners) listener(kind);
  }
}

/** Pointer gestures on the stage: mouse, touch and pen, through Pointer Events on the surface itself. */

import * as commands from "../model/commands.js";
import { distanceBetween, NO_RING } from "../model/geometry.js";
import { MAX_PAIRS, MAX_PINS } from "../model/points_text.js";

const HIT = { mouse: 12, pen: 16, touch: 24 };
const STILL = { mouse: 3, pen: 5, touch: 8 };
const BESIDE = 4;
/** A turn of the wheel is one step of history once it has rested for so long, in ms. */
const WHEEL_RESTS = 300;

export class Gestures {
  #stage;
  #model;
  #picker;
  #gesture = null;
  #touches = new Map();
  #turning = 0;

  /** picker: {texts, isReadOnly, isFocused, isPanning, focus(), say(text), showMask()}: what the surroundings know and do. */
  constructor(stage, picker) {
    this.#stage = stage;
    this.#model = stage.model;
    this.#picker = picker;
    const { surface } = stage;
    surface.addEventListener("pointerdown", (event) => this.#down(event));
    surface.addEventListener("pointermove", (event) => this.#move(event));
    surface.addEventListener("pointerup", (event) => this.#up(event));
    surface.addEventListener("pointercancel", (event) => this.#lost(event));
    surface.addEventListener("lostpointercapture", (event) => this.#lost(event));
    surface.addEventListener("pointerleave", () => this.#leave());
    surface.addEventListener("contextmenu", (event) => this.#contextMenu(event));
    surface.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  get isActive() {
    return this.#gesture !== null;
  }

  /** Make what the wheel turned a step of history. */
  settle() {
    if (!this.#turning) return;
    clearTimeout(this.#turning);
    this.#turning = 0;
    if (!this.isActive && this.#model.isPreviewing) this.#model.commit();
  }

  /** End a gesture as if it had not begun. */
  cancel() {
    if (this.#gesture?.kind === "stroke") this.#stage.mask.revert();
    this.#gesture = null;
    this.#stage.grabbed = null;
    this.#model.cancel();
    this.#stage.render();
  }

  #down(event) {
    const wasFocused = this.#picker.isFocused;
    if (event.button === 1 && !wasFocused) return;
    if (event.button === 0) this.#picker.focus();
    if (this.#picker.isReadOnly || event.button > 1) return;
    const place = this.#stage.placeOf(event);
    if (event.pointerType === "touch") {
      this.#touches.set(event.pointerId, place);
      if (this.#touches.size > 1) return this.#beginPinch();
    }
    if (this.#gesture) return;
    this.settle();
    this.#stage.surface.setPointerCapture(event.pointerId);
    this.#gesture = { id: event.pointerId, type: event.pointerType, start: place, last: place, moved: false };
    const { tool } = this.#stage.settings;
    if (event.button === 1 || this.#picker.isPanning) {
      event.preventDefault();
      this.#gesture.kind = "pan";
    } else if (tool === "pins" || (tool === "points" && event.shiftKey)) {
      this.#beginPin(place);
    } else if (tool === "points") {
      this.#beginPoint(place);
    } else {
      this.#beginStroke(place, tool === "erase");
    }
  }

  #beginPoint(place) {
    const { state } = this.#model;
    const pending = commands.pendingIndex(state);
    const hit = this.#stage.hitTest(place, HIT[this.#gesture.type] ?? HIT.mouse);
    const waits = pending >= 0;
    const besideHandle =
      waits && distanceBetween(place, this.#stage.toView(state.pairs[pending].handle)) > BESIDE * this.#stage.screenPixel;
    if (waits && (!hit || (hit.index === pending && besideHandle))) {
      this.#grab("place", { index: pending, end: "target" });
      this.#model.preview(commands.setEnd(state, pending, "target", this.#stage.toPicture(place)));
    } else if (waits && hit.index === pending) {
      this.#grab("pull", { index: pending, end: "target" });
      this.#model.select({ index: pending, end: "handle" });
    } else if (hit?.end === "arrow") {
      this.#grab("pair", { index: hit.index, end: "handle" });
    } else if (hit?.end === "reach") {
      this.#grab("reach", { index: hit.index, end: "handle" });
    } else if (hit) {
      this.#grab("end", hit);
    } else {
      this.#beginHandle(place);
    }
  }

  #beginHandle(place) {
    const { state } = this.#model;
    const next = commands.addHandle(state, this.#stage.toPicture(place));
    const handle = next.pairs[state.pairs.length]?.handle;
    if (!handle || distanceBetween(this.#stage.toView(handle), place) > HIT.mouse * this.#stage.screenPixel) {
      if (handle) this.#model.select(null);
      else this.#picker.say(this.#picker.texts.mostPairs(MAX_PAIRS));
      this.#gesture = null;
      return;
    }
    this.#model.preview(next);
    this.#grab("pull", { index: state.pairs.length, end: "target" });
    this.#model.select({ index: state.pairs.length, end: "handle" });
  }

  /** A press places a pin, which can be dragged on; on a pin that is there it takes that. */
  #beginPin(place) {
    const { state } = this.#model;
    const hit = this.#stage.hitTest(place, HIT[this.#gesture.type] ?? HIT.mouse);
    if (hit?.end === "pin") return this.#grab("end", hit);
    const next = commands.addPin(state, this.#stage.toPicture(place));
    const pin = next.pins[state.pins.length];
    if (!pin || distanceBetween(this.#stage.toView(pin), place) > HIT.mouse * this.#stage.screenPixel) {
      if (pin) this.#model.select(null);
      else this.#picker.say(this.#picker.texts.mostPins(MAX_PINS));
      this.#gesture = null;
      return;
    }
    this.#model.preview(next);
    this.#grab("end", { index: state.pins.length, end: "pin" });
  }

  #grab(kind, selected) {
    const { state } = this.#model;
    const point = commands.pointAt(state, selected);
    const offset = point ? this.#stage.toView(point).map((value, axis) => value - this.#gesture.start[axis]) : [0, 0];
    Object.assign(this.#gesture, { kind, ...selected, from: state, offset: kind === "end" ? offset : [0, 0] });
    if (kind !== "pull") this.#model.select(selected);
  }

  #beginStroke(place, erase) {
    this.#stage.mask.update(this.#model.state);
    Object.assign(this.#gesture, { kind: "stroke", erase, diameter: this.#stage.settings.brush, points: [] });
    if (!this.#stage.settings.maskVisible) this.#picker.showMask();
    this.#extendStroke(place);
  }

  #extendStroke(place) {
    const { points, erase, diameter } = this.#gesture;
    const point = this.#stage.toPicture(place).map((value) => Math.round(value * 10) / 10);
    points.push(point);
    this.#stage.mask.extendStroke({ erase, diameter, points: points.slice(-2) });
    this.#stage.render("mask", "points");
  }

  #beginPinch() {
    if (this.#gesture?.kind !== "pinch") this.cancel();
    this.#gesture = { kind: "pinch", spread: this.#spread(), middle: this.#middle() };
  }

  #move(event) {
    const place = this.#stage.placeOf(event);
    if (this.#touches.has(event.pointerId)) this.#touches.set(event.pointerId, place);
    this.#stage.pointer = event.pointerType === "touch" && !this.#gesture ? null : place;
    if (this.#gesture?.kind === "pinch") return this.#movePinch();
    if (!this.#gesture) return this.#hover(place, event.pointerType);
    if (event.pointerId !== this.#gesture.id) return;
    if (this.#gesture.kind === "stroke") {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) this.#extendStroke(this.#stage.placeOf(each));
      return;
    }
    this.#drag(place);
  }

  #drag(place) {
    const gesture = this.#gesture;
    const still = (STILL[gesture.type] ?? STILL.mouse) * this.#stage.screenPixel;
    if (gesture.kind === "pan") {
      this.#stage.pan(place[0] - gesture.last[0], place[1] - gesture.last[1]);
      gesture.last = place;
      return;
    }
    gesture.moved ||= distanceBetween(place, gesture.start) > still;
    if (!gesture.moved) return;
    const { index, end, from } = gesture;
    this.#stage.grabbed = gesture.kind === "reach" ? null : { index, end };
    if (gesture.kind === "reach") {
      this.#model.preview(commands.setReach(from, index, this.#reachAt(place)));
    } else if (gesture.kind === "pair") {
      const [ax, ay] = this.#stage.toPicture(gesture.start);
      const [bx, by] = this.#stage.toPicture(place);
      this.#stage.grabbed = null;
      this.#model.preview(commands.movePair(from, index, bx - ax, by - ay));
    } else {
      const at = [place[0] + gesture.offset[0], place[1] + gesture.offset[1]];
      this.#model.preview(commands.setEnd(from, index, end, this.#stage.toPicture(at)));
      if (gesture.kind === "pull") this.#model.select({ index, end });
    }
  }

  /** The reach whose ring goes through a place; 0 on the handle's own mark. What was grabbed beside does not jump. */
  #reachAt(place) {
    const { from, index, start } = this.#gesture;
    const { handle, reach } = from.pairs[index];
    const distance = (at) => distanceBetween(this.#stage.toView(handle), at);
    const { scale } = this.#stage.viewport;
    const radius = distance(place) + (reach ? reach * scale - distance(start) : 0);
    return radius < NO_RING * this.#stage.screenPixel ? 0 : radius / scale;
  }

  #up(event) {
    this.#touches.delete(event.pointerId);
    if (this.#gesture?.kind === "pinch") {
      if (this.#touches.size < 2) this.#gesture = { kind: "done" };
      if (!this.#touches.size) this.#gesture = null;
      return;
    }
    if (!this.#touches.size && this.#gesture?.kind === "done") this.#gesture = null;
    if (event.pointerId !== this.#gesture?.id) return;
    const gesture = this.#gesture;
    this.#gesture = null;
    this.#stage.grabbed = null;
    if (gesture.kind === "stroke") {
      const next = commands.paint(this.#model.state, gesture);
      this.#stage.mask.adopt(next.mask);
      this.#model.commit(next);
    } else if (this.#model.isPreviewing) {
      this.#model.commit();
    }
    if (event.pointerType === "touch") this.#stage.pointer = null;
    this.#stage.render();
  }

  #lost(event) {
    this.#touches.delete(event.pointerId);
    if (event.pointerId === this.#gesture?.id) this.cancel();
    else if (!this.#touches.size && ["pinch", "done"].includes(this.#gesture?.kind)) this.#gesture = null;
  }

  #hover(place, type) {
    const isPoints = ["points", "pins"].includes(this.#stage.settings.tool);
    this.#stage.hovered = isPoints ? this.#stage.hitTest(place, HIT[type] ?? HIT.mouse) : null;
    const { surface } = this.#stage;
    surface.style.cursor = this.#picker.isPanning ? "grab" : this.#stage.hovered ? "move" : isPoints ? "" : "none";
    this.#stage.render("points");
  }

  #leave() {
    if (this.#gesture) return;
    this.#stage.pointer = this.#stage.hovered = null;
    this.#stage.render("points");
  }

  #contextMenu(event) {
    if (event.pointerType === "touch" || this.#picker.isReadOnly) return;
    if (this.isActive) this.cancel();
    const hit = this.#stage.hitTest(this.#stage.placeOf(event), HIT.mouse);
    if (!hit) return;
    event.preventDefault();
    event.stopPropagation();
    this.#picker.focus();
    const hitRing = hit.end === "reach";
    const { state } = this.#model;
    this.#model.commit(hitRing ? commands.setReach(state, hit.index, 0) : commands.removeAt(state, hit));
  }

  /** While the picker is not focused the wheel is the graph's. Over a ring it turns that, elsewhere it zooms. */
  #wheel(event) {
    if (!this.#picker.isFocused) return;
    event.preventDefault();
    event.stopPropagation();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const factor = Math.exp((-event.deltaY * lines) / 400);
    const turned = event.altKey ? this.#model.selected : this.#stage.hovered?.end === "reach" && this.#stage.hovered;
    if (!turned || turned.end === "pin") return this.#stage.zoom(factor, this.#stage.placeOf(event));
    if (this.isActive || this.#picker.isReadOnly) return;
    clearTimeout(this.#turning);
    this.#turning = setTimeout(() => this.settle(), WHEEL_RESTS);
    this.#model.preview(commands.growReach(this.#model.state, turned.index, Math.sqrt(factor)));
  }

  #movePinch() {
    const [spread, middle] = [this.#spread(), this.#middle()];
    const { spread: oldSpread, middle: oldMiddle } = this.#gesture;
    this.#stage.zoom(spread / Math.max(oldSpread, 1), oldMiddle);
    this.#stage.pan(middle[0] - oldMiddle[0], middle[1] - oldMiddle[1]);
    Object.assign(this.#gesture, { spread, middle });
  }

  #spread() {
    const [a, b] = [...this.#touches.values()];
    return distanceBetween(a, b);
  }

  #middle() {
    const [a, b] = [...this.#touches.values()];
    return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  }
}

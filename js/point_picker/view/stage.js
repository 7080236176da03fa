/** The stage: picture, mask and points, a canvas each, and the viewport through which they are seen. */

import * as geometry from "../model/geometry.js";
import { pendingIndex } from "../model/commands.js";
import { drawArrows, drawBrush, drawEnds, drawPaths, drawPendingLine, drawPins, drawReaches } from "./drawing.js";
import { element } from "./elements.js";

const MASK_OPACITY = 0.5;
const LAYERS = ["picture", "mask", "points"];

export class Stage {
  #dirty = new Set(LAYERS);
  #frame = 0;
  #observer = null;

  /** settings: {tool, brush, maskVisible}; `mask`: the MaskLayer. */
  constructor(model, settings, mask) {
    this.model = model;
    this.settings = settings;
    this.mask = mask;
    this.picture = null;
    /** What is written on the stage while there is no picture. */
    this.blankText = "";
    this.paths = [];
    /** Where the pointer is, in view pixels, or null. */
    this.pointer = null;
    /** What is under the pointer, {index, end} or null, and the point being placed right now. */
    this.hovered = null;
    this.grabbed = null;
    this.view = { width: 0, height: 0 };
    this.viewport = { scale: 1, x: 0, y: 0 };
    this.isFitted = true;
    this.onViewportChange = () => {};
    this.layers = Object.fromEntries(LAYERS.map((name) => [name, element("canvas")]));
    this.layers.mask.style.opacity = MASK_OPACITY;
    this.surface = element("div", "dn-surface", { title: "" }, ...Object.values(this.layers));
  }

  /** Start following the surface's size; `disconnect` ends it. */
  connect() {
    this.#observer ??= new ResizeObserver(() => this.#resized());
    this.#observer.observe(this.surface);
  }

  disconnect() {
    this.#observer?.disconnect();
    this.#observer = null;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  /** CSS pixels of the surface for one pixel of the screen: the graph's zoom undone. */
  get screenPixel() {
    const { width } = this.surface.getBoundingClientRect();
    return width ? this.surface.clientWidth / width : 1;
  }

  /** A pointer event's place in view pixels. */
  placeOf(event) {
    const rect = this.surface.getBoundingClientRect();
    return [
      ((event.clientX - rect.left) * this.surface.clientWidth) / rect.width,
      ((event.clientY - rect.top) * this.surface.clientHeight) / rect.height,
    ];
  }

  toPicture(place) {
    return geometry.toPicture(this.viewport, place);
  }

  toView(point) {
    return geometry.toView(this.viewport, point);
  }

  hitTest(place, screenRadius) {
    const { state, selected } = this.model;
    return geometry.hitTest(state, this.viewport, place, screenRadius * this.screenPixel, selected);
  }

  fit() {
    this.isFitted = true;
    this.#show(geometry.fitViewport(this.model.stage, this.view));
  }

  zoom(factor, at = [this.view.width / 2, this.view.height / 2]) {
    const viewport = geometry.zoomedAt(this.viewport, factor, at, this.model.stage, this.view);
    this.isFitted = viewport.scale <= geometry.fitViewport(this.model.stage, this.view).scale * 1.0001;
    this.#show(viewport);
  }

  pan(dx, dy) {
    this.#show(geometry.pannedBy(this.viewport, dx, dy, this.model.stage, this.view));
  }

  /** Bring `point` (picture pixels) into sight. */
  reveal(point) {
    const margin = 24;
    const [x, y] = this.toView(point);
    const shift = (place, side) => Math.max(margin - place, 0) + Math.min(side - margin - place, 0);
    this.pan(shift(x, this.view.width), shift(y, this.view.height));
  }

  /** The picture or its size changed. */
  stageChanged() {
    if (this.isFitted) this.fit();
    else this.#show(geometry.bounded(this.viewport, this.model.stage, this.view));
  }

  /** Draw these layers, or all, on the next frame. */
  render(...layers) {
    for (const layer of layers.length ? layers : LAYERS) this.#dirty.add(layer);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #show(viewport) {
    this.viewport = viewport;
    this.onViewportChange();
    this.render();
  }

  #resized() {
    const { clientWidth: width, clientHeight: height } = this.surface;
    if (!width || !height) return;
    this.view = { width, height };
    this.stageChanged();
  }

  #draw() {
    this.#frame = 0;
    const { width, height } = this.view;
    if (!width || !height) return;
    const density = devicePixelRatio * Math.min(Math.max(1 / this.screenPixel, 1), 2);
    const draw = { picture: this.#drawPicture, mask: this.#drawMask, points: this.#drawPoints };
    for (const name of LAYERS) {
      const resized = this.#sized(this.layers[name], density);
      if (resized || this.#dirty.has(name)) draw[name].call(this, this.#cleared(this.layers[name], density));
    }
    this.#dirty.clear();
  }

  #sized(canvas, density) {
    const [width, height] = [Math.round(this.view.width * density), Math.round(this.view.height * density)];
    if (canvas.width === width && canvas.height === height) return false;
    canvas.width = width;
    canvas.height = height;
    return true;
  }

  #cleared(canvas, density) {
    const context = canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, this.view.width, this.view.height);
    return context;
  }

  /** Where the picture lies in the view: x, y, width, height. */
  get #frameOfPicture() {
    const { stage } = this.model;
    return [...this.toView([0, 0]), stage.width * this.viewport.scale, stage.height * this.viewport.scale];
  }

  #drawPicture(context) {
    if (!this.picture) {
      drawBlank(context, this.#frameOfPicture, this.blankText);
      return;
    }
    context.imageSmoothingEnabled = this.viewport.scale < 4;
    context.imageSmoothingQuality = "medium";
    context.drawImage(this.picture, ...this.#frameOfPicture);
  }

  #drawMask(context) {
    const { state } = this.model;
    if (!this.settings.maskVisible) return;
    this.mask.update(state);
    context.drawImage(this.mask.canvas, ...this.#frameOfPicture);
  }

  #drawPoints(context) {
    const { model, settings, pointer } = this;
    const pending = model.state.pairs[pendingIndex(model.state)];
    if (pending && pointer && settings.tool === "points" && !this.hovered) {
      drawPendingLine(context, this.toView(pending.handle), pointer);
    }
    drawReaches(context, model.state, this.viewport, model.selected);
    drawArrows(context, model.state, this.viewport, model.selected);
    drawPaths(context, this.paths, this.viewport);
    drawPins(context, model.state, this.viewport, model.selected);
    drawEnds(context, model.state, this.viewport, model.selected, this.grabbed);
    if (pointer && ["paint", "erase"].includes(settings.tool)) {
      drawBrush(context, pointer, (settings.brush * this.viewport.scale) / 2, settings.tool === "erase");
    }
  }
}

/** The stage without a picture: grey with a grid of eight fields, and a line that says why. */
function drawBlank(context, [x, y, width, height], text) {
  context.fillStyle = "#7f7f7f";
  context.fillRect(x, y, width, height);
  context.strokeStyle = "rgba(255, 255, 255, 0.12)";
  context.lineWidth = 1;
  context.beginPath();
  for (let line = 1; line < 8; line++) {
    context.moveTo(x + (width * line) / 8, y);
    context.lineTo(x + (width * line) / 8, y + height);
    context.moveTo(x, y + (height * line) / 8);
    context.lineTo(x + width, y + (height * line) / 8);
  }
  context.stroke();
  context.fillStyle = "rgba(255, 255, 255, 0.8)";
  context.font = "13px system-ui, sans-serif";
  context.textAlign = "center";
  text.split("\n").forEach((line, row) => context.fillText(line, x + width / 2, y + 24 + 18 * row, width - 16));
}

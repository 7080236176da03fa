/** The painted mask as a canvas: what is painted is opaque in one colour, so that it can be laid over the picture. */

export const MASK_COLOUR = "#ffb000";
const MAX_SIDE = 2048;

export class MaskLayer {
  #shown = { mask: [], width: 0, height: 0 };
  #files = new Map();
  #loadFile;
  #onLoad;

  /**
   * loadFile(name): a promise of the stored file's picture; rejected when there is none.
   * onLoad(error or null, name): called when a file came late or failed.
   */
  constructor(loadFile, onLoad) {
    this.#loadFile = loadFile;
    this.#onLoad = onLoad;
    this.canvas = document.createElement("canvas");
  }

  /** Bring the canvas to `state`'s mask; only what is new is painted. */
  update({ mask, width, height }) {
    const shown = this.#shown;
    if (mask === shown.mask && width === shown.width && height === shown.height) return;
    this.#shown = { mask, width, height };
    const sameSize = width === shown.width && height === shown.height;
    const added = mask.length === shown.mask.length + 1 && shown.mask.every((old, index) => old === mask[index]);
    if (sameSize && added) {
      this.#apply(this.canvas, this.#shown, mask[mask.length - 1]);
    } else {
      this.#replay(this.canvas, this.#shown);
    }
  }

  /** Paint a piece of a stroke that is still going on; `update` with the same mask as before would not undo it. */
  extendStroke(stroke) {
    this.#apply(this.canvas, this.#shown, { kind: "stroke", ...stroke });
  }

  /** Take `mask` as shown: its last stroke was painted by extendStroke. */
  adopt(mask) {
    this.#shown = { ...this.#shown, mask };
  }

  /** Forget a stroke that extendStroke began. */
  revert() {
    this.#replay(this.canvas, this.#shown);
  }

  /** The mask as a PNG, white where painted on black; null when nothing is painted. Waits for stored files. */
  async toBlob({ mask, width, height }) {
    const names = mask.filter(({ kind }) => kind === "file").map(({ name }) => name);
    await Promise.all(names.map((name) => this.#file(name).ready));
    const canvas = document.createElement("canvas");
    this.#replay(canvas, { mask, width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    const { data } = pixels;
    let painted = false;
    for (let index = 0; index < data.length; index += 4) {
      const value = data[index + 3];
      painted ||= value > 0;
      data[index] = data[index + 1] = data[index + 2] = value;
      data[index + 3] = 255;
    }
    if (!painted) return null;
    context.putImageData(pixels, 0, 0);
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the browser could not write the mask"))), "image/png");
    });
  }

  #replay(canvas, shown) {
    const scale = Math.min(1, MAX_SIDE / Math.max(shown.width, shown.height, 1));
    canvas.width = Math.max(1, Math.round(shown.width * scale));
    canvas.height = Math.max(1, Math.round(shown.height * scale));
    for (const operation of shown.mask) this.#apply(canvas, shown, operation);
  }

  #apply(canvas, { width, height }, operation) {
    const context = canvas.getContext("2d");
    context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
    context.fillStyle = context.strokeStyle = MASK_COLOUR;
    context.globalCompositeOperation = "source-over";
    if (operation.kind === "invert") {
      context.globalCompositeOperation = "source-out";
      context.fillRect(0, 0, width, height);
    } else if (operation.kind === "file") {
      const { canvas: file } = this.#file(operation.name);
      if (file) context.drawImage(file, 0, 0, operation.width ?? width, operation.height ?? height);
    } else {
      strokePath(context, operation);
    }
  }

  #file(name) {
    if (!this.#files.has(name)) {
      const entry = { canvas: null };
      this.#files.set(name, entry);
      entry.ready = this.#loadFile(name).then((picture) => {
        entry.canvas = tinted(picture);
      });
      entry.ready.then(
        () => {
          this.revert();
          this.#onLoad(null, name);
        },
        (error) => {
          this.#files.delete(name);
          this.#onLoad(error, name);
        },
      );
    }
    return this.#files.get(name);
  }
}

function strokePath(context, { erase, diameter, points }) {
  if (erase) context.globalCompositeOperation = "destination-out";
  context.lineWidth = diameter;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  // A line without length is not drawn, round caps or not.
  if (points.length === 1) {
    context.arc(...points[0], diameter / 2, 0, 2 * Math.PI);
    context.fill();
  } else {
    for (const point of points) context.lineTo(...point);
    context.stroke();
  }
}

/**
 * A stored mask as this layer keeps it: opaque colour where the picture may change. As in load_mask of
 * dragnoise_core/images.py: what is transparent, as in the host's mask editor; in an opaque file, what is white.
 */
function tinted(picture) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth ?? picture.width;
  canvas.height = picture.naturalHeight ?? picture.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = pixels;
  let opaque = true;
  for (let index = 3; index < data.length && opaque; index += 4) opaque = data[index] === 255;
  for (let index = 0; index < data.length; index += 4) {
    const [red, green, blue, alpha] = data.subarray(index, index + 4);
    data[index + 3] = opaque ? Math.round(0.299 * red + 0.587 * green + 0.114 * blue) : 255 - alpha;
  }
  context.putImageData(pixels, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = MASK_COLOUR;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}

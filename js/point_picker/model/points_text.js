/**
 * Points as text. The same forms, and the same refusals, as DragPoints.parse in dragnoise_core/points.py;
 * tests/support/point_strings.json is read by the tests of both. One form more is read here: a pair whose target
 * is null, because a person may save the workflow between the two clicks.
 */

export const VERSION = 1;
export const MAX_PAIRS = 64;
export const MAX_TEXT_BYTES = 64 * 1024;
export const MAX_SIDE = 65536;

/** What is wrong with a text, in words that say what to do. */
export class PointsError extends Error {}

/**
 * Read points: this project's own form, tracks ([[{x, y} or [x, y], ...], ...]: first point = handle, last = target),
 * one track of {x, y}, or DragBench's flat [[x, y], ...], alternating, bare or under "points".
 *
 * `stage` ({width, height} or null) is the picture's size: needed by the forms that carry none; a form that carries
 * its own is scaled to it. Returns {width, height, pairs: [{handle: [x, y], target: [x, y] or null}]}.
 * Throws PointsError naming the pair that is wrong.
 */
export function parsePoints(text, stage = null) {
  const value = readJson(text);
  const ownForm = isObject(value) && "pairs" in value;
  const points = ownForm
    ? pointsOfOwnForm(value)
    : { ...stage, pairs: pairsOfLists(isObject(value) ? value.points : value) };
  checkPoints(points);
  return stage ? scaledPoints(points, stage) : points;
}

/** Write {width, height, pairs} as the versioned JSON form; no pair at all is the empty string. */
export function serialisePoints({ width, height, pairs }) {
  if (!pairs.length) return "";
  return JSON.stringify({ version: VERSION, width, height, pairs });
}

/** The same points on the picture resized to `stage`. */
export function scaledPoints(points, { width, height }) {
  if (width === points.width && height === points.height) return points;
  const scale = ([x, y]) => [
    Math.min((x * width) / points.width, width),
    Math.min((y * height) / points.height, height),
  ];
  const pairs = points.pairs.map(({ handle, target }) => ({ handle: scale(handle), target: target && scale(target) }));
  return { ...points, width, height, pairs };
}

function readJson(text) {
  if (new TextEncoder().encode(text).length > MAX_TEXT_BYTES) {
    throw new PointsError(`the points' text is longer than ${MAX_TEXT_BYTES / 1024} KiB; give at most ${MAX_PAIRS} pairs.`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new PointsError(`the points are not JSON (${error.message}); place them again or mend the text.`);
  }
}

function pointsOfOwnForm(value) {
  if (value.version !== VERSION) {
    const version = JSON.stringify(value.version);
    throw new PointsError(`the points have version ${version}, this reads version ${VERSION}; place them again or update.`);
  }
  if (!Array.isArray(value.pairs)) throw new PointsError("the points' pairs are not a list; place them again.");
  const pairs = value.pairs.map((entry, index) => {
    const number = index + 1;
    if (!isObject(entry) || (entry.handle ?? null) === null) {
      throw new PointsError(`pair ${number} has no handle; set it or remove the pair.`);
    }
    const handle = readPoint(entry.handle, `handle of pair ${number}`);
    const target = (entry.target ?? null) === null ? null : readPoint(entry.target, `target of pair ${number}`);
    return { handle, target };
  });
  return { width: value.width, height: value.height, pairs };
}

function pairsOfLists(value) {
  if (!Array.isArray(value)) throw new PointsError("the points are not a list; give pairs, tracks or [x, y] points.");
  if (value.length && value.every(isObject)) value = [value];
  if (value.every((entry) => Array.isArray(entry) && entry.length === 2 && entry.every(isNumber))) {
    if (value.length % 2) {
      throw new PointsError(`pair ${(value.length + 1) / 2} has no target; alternate handle and target.`);
    }
    value = Array.from({ length: value.length / 2 }, (_, index) => value.slice(2 * index, 2 * index + 2));
  }
  return value.map((track, index) => {
    const number = index + 1;
    if (!Array.isArray(track) || track.length < 2) {
      throw new PointsError(`pair ${number} has no target; a track needs a first and a last point.`);
    }
    const handle = readPoint(track[0], `handle of pair ${number}`);
    return { handle, target: readPoint(track[track.length - 1], `target of pair ${number}`) };
  });
}

function checkPoints({ width, height, pairs }) {
  if (width === undefined || height === undefined || width === null || height === null) {
    throw new PointsError("the points carry no picture size; give the picture's width and height.");
  }
  for (const [name, side] of Object.entries({ width, height })) {
    if (!Number.isInteger(side) || side < 1 || side > MAX_SIDE) {
      throw new PointsError(`picture ${name} is ${JSON.stringify(side)}; give whole pixels from 1 to ${MAX_SIDE}.`);
    }
  }
  if (!pairs.length) throw new PointsError("no point pair; place at least one handle and its target.");
  if (pairs.length > MAX_PAIRS) throw new PointsError(`${pairs.length} point pairs; at most ${MAX_PAIRS} are possible.`);
  pairs.forEach((pair, index) => {
    for (const [end, point] of Object.entries(pair)) {
      if (point === null) continue;
      const name = `${end} of pair ${index + 1}`;
      if (!point.every(Number.isFinite)) throw new PointsError(`${name} is ${point}; give two finite numbers, x and y.`);
      if (point[0] < 0 || point[0] > width || point[1] < 0 || point[1] > height) {
        throw new PointsError(`${name} is (${point.join(", ")}), outside the picture of ${width} x ${height}; move it inside.`);
      }
    }
  });
}

function readPoint(value, name) {
  const point = isObject(value) ? [value.x, value.y] : value;
  if (!Array.isArray(point) || point.length !== 2 || !point.every(isNumber)) {
    throw new PointsError(`${name} is ${String(JSON.stringify(value)).slice(0, 80)}; give two numbers, x and y.`);
  }
  return point;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isNumber(value) {
  return typeof value === "number";
}

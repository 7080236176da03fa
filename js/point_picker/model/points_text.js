/**
 * Points as text. The same forms, and the same refusals, as DragPoints.parse in dragnoise_core/points.py;
 * tests/support/point_strings.json is read by the tests of both. Two forms more are read here: a pair whose
 * target is null, and pins without a pair, because a person may save the workflow in between.
 */

/** Version 2 adds reaches and pins; what has neither is written as version 1, which earlier releases read too. */
const VERSIONS = [1, 2];
export const MAX_PAIRS = 64;
export const MAX_PINS = 64;
export const MAX_TEXT_BYTES = 64 * 1024;
export const MAX_SIDE = 65536;
const NORMALISED_FROM = 8; // on a picture of at least so many pixels a side, points that all lie in its first one are shares
const [MIN_REACH, MAX_REACH] = [0.01, MAX_SIDE];

/** What is wrong with a text, in words that say what to do. */
export class PointsError extends Error {}

/**
 * Read points: this project's own form, tracks ([[{x, y} or [x, y], ...], ...]: first point = handle, last = target),
 * a bare list of two {x, y}, or DragBench's flat [[x, y], ...], alternating, bare or under "points".
 *
 * `stage` ({width, height} or null) is the picture's size: needed by the forms that carry none; a form that carries
 * its own is scaled to it. Returns {width, height, pairs: [{handle: [x, y], target: [x, y] or null, reach}], pins:
 * [[x, y], ...]}; a pair without a reach has no such key. Throws PointsError naming the pair
 * that is wrong.
 */
export function parsePoints(text, stage = null) {
  const value = readJson(text);
  const ownForm = isObject(value) && "pairs" in value;
  const points = ownForm
    ? pointsOfOwnForm(value)
    : { ...stage, pairs: pairsOfLists(isObject(value) ? pointsOfObject(value) : value), pins: [] };
  checkPoints(points);
  return stage ? scaledPoints(points, stage) : points;
}

/** Write {width, height, pairs, pins} as the versioned JSON form; nothing at all is the empty string. */
export function serialisePoints({ width, height, pairs, pins }) {
  if (!pairs.length && !pins.length) return "";
  const version = pins.length || pairs.some(({ reach }) => reach) ? 2 : 1;
  return JSON.stringify({ version, width, height, pairs, ...(pins.length && { pins }) });
}

/** The same points on the picture resized to `stage`; a reach's circle keeps its share of the area. */
export function scaledPoints(points, { width, height }) {
  if (width === points.width && height === points.height) return points;
  const [factorX, factorY] = [width / points.width, height / points.height];
  const scale = ([x, y]) => [Math.min(x * factorX, width), Math.min(y * factorY, height)];
  const pairs = points.pairs.map(({ handle, target, reach }) => ({
    handle: scale(handle),
    target: target && scale(target),
    ...(reach && { reach: clampReach(reach * Math.sqrt(factorX * factorY)) }),
  }));
  return { ...points, width, height, pairs, pins: points.pins.map(scale) };
}

/** The nearest reach that both readers take. */
export function clampReach(reach) {
  return Math.min(Math.max(reach, MIN_REACH), MAX_REACH);
}

function readJson(text) {
  if (new TextEncoder().encode(text).length > MAX_TEXT_BYTES) {
    throw new PointsError(`the points' text is longer than ${MAX_TEXT_BYTES / 1024} KiB; give at most ${MAX_PAIRS} pairs.`);
  }
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    throw new PointsError(`the points are not JSON (${error.message.slice(0, 80)}); place them again or mend the text.`);
  }
}

function pointsOfOwnForm(value) {
  if (!VERSIONS.includes(value.version)) {
    const version = JSON.stringify(value.version);
    throw new PointsError(`the points have version ${version}, this reads 1 and 2; place them again or update.`);
  }
  if (!Array.isArray(value.pairs)) throw new PointsError("the points' pairs are not a list; place them again.");
  const pairs = value.pairs.map((entry, index) => {
    const number = index + 1;
    if (!isObject(entry) || (entry.handle ?? null) === null) {
      throw new PointsError(`pair ${number} has no handle; set it or remove the pair.`);
    }
    const handle = readPoint(entry.handle, `handle of pair ${number}`);
    const target = (entry.target ?? null) === null ? null : readPoint(entry.target, `target of pair ${number}`);
    return { handle, target, ...((entry.reach ?? null) !== null && { reach: entry.reach }) };
  });
  const pins = value.pins ?? [];
  if (!Array.isArray(pins)) throw new PointsError("the points' pins are not a list; place them again.");
  const read = pins.map((pin, index) => readPoint(pin, `pin ${index + 1}`));
  return { width: value.width, height: value.height, pairs, pins: read };
}

function pointsOfObject(value) {
  if ("points" in value) return value.points;
  throw new PointsError("the points have neither pairs nor points in them; give pairs, tracks or [x, y] points.");
}

function pairsOfLists(value) {
  if (!Array.isArray(value)) throw new PointsError("the points are not a list; give pairs, tracks or [x, y] points.");
  if (value.length && value.every(isObject)) {
    if (value.length > 2) {
      throw new PointsError(
        `${value.length} points in one list may be one track or several pairs; give a track's two ends alone ` +
          "(KJNodes: points_to_sample 2), or write pairs as [[handle, target], ...].",
      );
    }
    value = [value];
  }
  if (value.every((entry) => Array.isArray(entry) && entry.length === 2 && entry.every(isNumber))) {
    if (value.length % 2) {
      throw new PointsError(`pair ${(value.length + 1) / 2} has no target; alternate handle and target.`);
    }
    value = Array.from({ length: value.length / 2 }, (_, index) => value.slice(2 * index, 2 * index + 2));
  }
  return value.map((track, index) => {
    const number = index + 1;
    if (!Array.isArray(track)) {
      const said = String(JSON.stringify(track)).slice(0, 80);
      throw new PointsError(`pair ${number} is ${said}; give [handle, target] or a track of points.`);
    }
    if (track.length < 2) {
      throw new PointsError(`pair ${number} has no target; a track needs a first and a last point.`);
    }
    const handle = readPoint(track[0], `handle of pair ${number}`);
    return { handle, target: readPoint(track[track.length - 1], `target of pair ${number}`) };
  });
}

function checkPoints({ width, height, pairs, pins }) {
  if (width === undefined || height === undefined || width === null || height === null) {
    throw new PointsError("the points carry no picture size; give the picture's width and height.");
  }
  for (const [name, side] of Object.entries({ width, height })) {
    if (!Number.isInteger(side) || side < 1 || side > MAX_SIDE) {
      throw new PointsError(`picture ${name} is ${JSON.stringify(side)}; give whole pixels from 1 to ${MAX_SIDE}.`);
    }
  }
  if (!pairs.length && !pins.length) throw new PointsError("no point pair; place at least one handle and its target.");
  if (pairs.length > MAX_PAIRS) throw new PointsError(`${pairs.length} point pairs; at most ${MAX_PAIRS} are possible.`);
  if (pins.length > MAX_PINS) throw new PointsError(`${pins.length} pins; at most ${MAX_PINS} are possible.`);
  pairs.forEach(({ handle, target, reach }, index) => {
    checkPoint(handle, `handle of pair ${index + 1}`, width, height);
    if (target) checkPoint(target, `target of pair ${index + 1}`, width, height);
    if (reach !== undefined && !(isNumber(reach) && reach >= MIN_REACH && reach <= MAX_REACH)) {
      const said = String(JSON.stringify(reach)).slice(0, 80);
      const range = `${MIN_REACH} to ${MAX_REACH}`;
      throw new PointsError(`reach of pair ${index + 1} is ${said}; give pixels from ${range}, or leave it out.`);
    }
  });
  pins.forEach((pin, index) => checkPoint(pin, `pin ${index + 1}`, width, height));
  refuseShares({ width, height, pairs });
}

/** Not while a pair waits for its target: a person may begin in the picture's corner. */
function refuseShares({ width, height, pairs }) {
  if (!pairs.length || Math.min(width, height) < NORMALISED_FROM || pairs.some(({ target }) => !target)) return;
  const ends = pairs.flatMap(({ handle, target }) => [...handle, ...target]);
  if (Math.max(...ends) > 1 || ends.every((value) => value === 0 || value === 1)) return;
  throw new PointsError(
    `all points lie between 0 and 1, as shares of the picture do, not pixels of ${width} x ${height}; ` +
      'multiply x by the width and y by the height, or write them with "width": 1 and "height": 1.',
  );
}

function checkPoint(point, name, width, height) {
  if (!point.every(Number.isFinite)) throw new PointsError(`${name} is ${point}; give two finite numbers, x and y.`);
  if (point[0] < 0 || point[0] > width || point[1] < 0 || point[1] > height) {
    throw new PointsError(`${name} is (${point.join(", ")}), outside the picture of ${width} x ${height}; move it inside.`);
  }
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

/**
 * Geometry of the view: pure functions.
 *
 * A viewport {scale, x, y} maps picture pixels to view pixels (CSS pixels of the canvas): view = picture * scale + offset.
 */

export const MAX_SCALE = 32;

/** The viewport that shows the whole picture in the middle, with a margin for markers at its border. */
export function fitViewport(picture, view, margin = 12) {
  const room = (side) => Math.max(side - 2 * margin, 1);
  const scale = Math.min(room(view.width) / picture.width, room(view.height) / picture.height);
  return centred(picture, view, scale);
}

/** Zoom by `factor`, the picture's point under `at` (view pixels) staying there; never smaller than the whole picture. */
export function zoomedAt(viewport, factor, at, picture, view) {
  const least = fitViewport(picture, view).scale;
  const scale = Math.min(Math.max(viewport.scale * factor, least), Math.max(MAX_SCALE, least));
  const [px, py] = toPicture(viewport, at);
  return bounded({ scale, x: at[0] - px * scale, y: at[1] - py * scale }, picture, view);
}

export function pannedBy(viewport, dx, dy, picture, view) {
  return bounded({ ...viewport, x: viewport.x + dx, y: viewport.y + dy }, picture, view);
}

/** No empty band wider than the margin where the picture could be; centred along an axis on which it all fits. */
export function bounded(viewport, picture, view, margin = 12) {
  const middle = centred(picture, view, viewport.scale);
  const axis = (offset, side, room, centre) =>
    side + 2 * margin <= room ? centre : Math.min(margin, Math.max(room - side - margin, offset));
  return {
    scale: viewport.scale,
    x: axis(viewport.x, picture.width * viewport.scale, view.width, middle.x),
    y: axis(viewport.y, picture.height * viewport.scale, view.height, middle.y),
  };
}

export function toView({ scale, x, y }, [px, py]) {
  return [px * scale + x, py * scale + y];
}

export function toPicture({ scale, x, y }, [vx, vy]) {
  return [(vx - x) / scale, (vy - y) / scale];
}

/**
 * What is under `at` (view pixels): {index, end} with end "handle", "target", "pin", "arrow" or "reach", or null.
 * The nearest point within `radius` wins; the grip of the selected pair's reach counts as one; an arrow is hit within
 * half of it, and so is a ring. Later ones lie on top. While a handle waits for its target no reach is hit.
 */
export function hitTest({ pairs, pins }, viewport, at, radius, selected = null) {
  const hit = (entries, within) => {
    let [best, nearest] = [null, within];
    for (const [found, distance] of entries) if (distance <= nearest) [best, nearest] = [found, distance];
    return best;
  };
  const away = (point) => (point ? distanceBetween(toView(viewport, point), at) : Infinity);
  const reaches = pairs.every(({ target }) => target) ? [...pairs.entries()] : [];
  const grips = reaches.filter(([index]) => selected && selected.end !== "pin" && index === selected.index);
  const points = [
    ...pins.map((pin, index) => [{ index, end: "pin" }, away(pin)]),
    ...grips.map(([index, pair]) => [{ index, end: "reach" }, distanceBetween(reachGrip(pair, viewport), at)]),
    ...pairs.flatMap((pair, index) => ["handle", "target"].map((end) => [{ index, end }, away(pair[end])])),
  ];
  const lines = pairs.flatMap(({ handle, target }, index) => {
    if (!target) return [];
    return [[{ index, end: "arrow" }, distanceToSegment(at, toView(viewport, handle), toView(viewport, target))]];
  });
  const rings = reaches.map(([index, { handle, reach }]) => {
    const distance = reach ? Math.abs(distanceBetween(toView(viewport, handle), at) - reach * viewport.scale) : Infinity;
    return [{ index, end: "reach" }, distance];
  });
  return hit(points, radius) ?? hit(lines, radius / 2) ?? hit(rings, radius / 2);
}

/** View pixels from a handle within which a ring ends: it is smaller than the handle's own mark. */
export const NO_RING = 12;
const GRIP_DISTANCE = 28;

/** Where the grip that changes a pair's reach is, in view pixels: on the ring, on the side away from the target. */
export function reachGrip({ handle, target, reach }, viewport) {
  const [x, y] = toView(viewport, handle);
  const [dx, dy] = target ? [handle[0] - target[0], handle[1] - target[1]] : [0, 0];
  const length = Math.hypot(dx, dy);
  const [ux, uy] = length ? [dx / length, dy / length] : [-1, 0];
  const away = reach ? reach * viewport.scale : GRIP_DISTANCE;
  return [x + ux * away, y + uy * away];
}

export function distanceBetween([ax, ay], [bx, by]) {
  return Math.hypot(ax - bx, ay - by);
}

export function distanceToSegment(point, from, to) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const length = dx * dx + dy * dy;
  const along = length ? ((point[0] - from[0]) * dx + (point[1] - from[1]) * dy) / length : 0;
  const t = Math.min(Math.max(along, 0), 1);
  return distanceBetween(point, [from[0] + t * dx, from[1] + t * dy]);
}

function centred(picture, view, scale) {
  return { scale, x: (view.width - picture.width * scale) / 2, y: (view.height - picture.height * scale) / 2 };
}

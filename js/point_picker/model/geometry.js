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
 * What is under `at` (view pixels): {index, end} with end "handle", "target" or "arrow", or null.
 * The nearest end within `radius` wins; an arrow is hit within half of it. Later pairs lie on top.
 */
export function hitTest(pairs, viewport, at, radius) {
  let [best, nearest] = [null, radius];
  pairs.forEach((pair, index) => {
    for (const end of ["handle", "target"]) {
      const distance = pair[end] ? distanceBetween(toView(viewport, pair[end]), at) : Infinity;
      if (distance <= nearest) [best, nearest] = [{ index, end }, distance];
    }
  });
  if (best) return best;
  nearest = radius / 2;
  pairs.forEach((pair, index) => {
    if (!pair.target) return;
    const distance = distanceToSegment(at, toView(viewport, pair.handle), toView(viewport, pair.target));
    if (distance <= nearest) [best, nearest] = [{ index, end: "arrow" }, distance];
  });
  return best;
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

/** Icons of the toolbar: paths on a 16 x 16 grid, stroked in the text's colour. */

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  points: "M3.5 12.5 11 5 M7.5 4.5h4v4 M5 12.5a1.7 1.7 0 1 1-3.4 0a1.7 1.7 0 1 1 3.4 0 M14.6 2.6a1.2 1.2 0 1 1-2.4 0a1.2 1.2 0 1 1 2.4 0",
  pin: "M8 2.5 13.5 8 8 13.5 2.5 8z M6 8h4 M8 6v4",
  reach: "M14 8a6 6 0 1 1-12 0a6 6 0 1 1 12 0 M9.300 8a1.3 1.3 0 1 1-2.6 0a1.3 1.3 0 1 1 2.6 0",
  paint: "M13.8 2.2c-2.6.9-5.6 3.8-7 6.2l1.6 1.6c2.4-1.4 5.2-4.5 6-7.2z M6 9.3c-1.7-.2-2.7.8-2.9 2.1-.1 1-.7 1.6-1.5 2 1.9.7 5.7.500 5.9-2.4",
  erase: "M6.5 13.5 2.3 9.3a1 1 0 0 1 0-1.4l5.6-5.6a1 1 0 0 1 1.4 0l4.4 4.4a1 1 0 0 1 0 1.4L8.3 13.5z M5 5.2l5.8 5.8 M5 13.5h9",
  undo: "M5.5 2.5 2.5 5.5l3 3 M2.8 5.5h6.4a4 4 0 0 1 0 8H6",
  redo: "M10.5 2.5l3 3-3 3 M13.2 5.5H6.8a4 4 0 0 0 0 8H10",
  remove: "M2.5 4.5h11 M6 4.5v-2h4v2 M4 4.5l.7 9h6.6l.7-9 M6.7 7v4 M9.3 7v4",
  removeAll: "M2.5 3.5h7 M2.5 8h5 M2.5 12.5h7 M10.5 6l4 4 M14.5 6l-4 4",
  invert: "M8 2a6 6 0 1 0 0 12z M8 2a6 6 0 0 1 0 12 M6.6 2.8v10.4 M5.2 3.6v8.8 M3.8 5v6",
  clear: "M3 3h10v10H3z M5.8 5.8l4.4 4.4 M10.2 5.8l-4.4 4.4",
  visible: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8z M10 8a2 2 0 1 1-4 0a2 2 0 1 1 4 0",
  zoomOut: "M3.5 8h9",
  zoomIn: "M3.5 8h9 M8 3.5v9",
};

/** Return a new <svg> with the icon `name`; it says nothing to screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

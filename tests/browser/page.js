/** Puts one picker on the page, as `picker`, with drawn pictures and a store for masks in the page itself. */

import { PointPicker } from "../../js/point_picker/view/point_picker.js";

window.files = {};

async function loadMask(name) {
  if (!window.files[name]) throw new Error("no such file");
  return createImageBitmap(window.files[name]);
}

/** A picture with sky, hill and bright and dark patches, so that markers meet every background. */
window.drawPicture = (width, height) => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const sky = context.createLinearGradient(0, 0, 0, height);
  sky.addColorStop(0, "#5fa8e8");
  sky.addColorStop(0.7, "#f7e8c8");
  context.fillStyle = sky;
  context.fillRect(0, 0, width, height);
  context.fillStyle = "#2f5d3a";
  context.beginPath();
  context.moveTo(0, height);
  context.lineTo(0, height * 0.7);
  context.quadraticCurveTo(width * 0.4, height * 0.2, width * 0.6, height * 0.65);
  context.lineTo(width, height * 0.55);
  context.lineTo(width, height);
  context.fill();
  context.fillStyle = "#fffdf0";
  context.beginPath();
  context.arc(width * 0.8, height * 0.2, width * 0.09, 0, 7);
  context.fill();
  context.fillStyle = "#101010";
  context.fillRect(width * 0.05, height * 0.78, width * 0.3, height * 0.18);
  return canvas;
};

window.picker = new PointPicker({ loadMask, language: document.documentElement.lang });
window.commits = 0;
window.picker.model.subscribe((kind) => (window.commits += kind === "commit"));
document.getElementById("node").append(window.picker.root);
window.picker.connect();

/** What the picker leaves alone, the wheel and the middle button, belongs to the graph that it lies on. */

/** Hand such events of `root` on to the host's canvas, which does not get them by itself. */
export function handOnToGraph(root, app) {
  // The host leaves the wheel to elements marked so while they hold the focus.
  root.dataset.captureWheel = "true";
  let isMiddleHeld = false;
  root.addEventListener("wheel", (event) => {
    if (event.defaultPrevented) return;
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  });
  root.addEventListener("pointerdown", (event) => {
    if (event.button !== 1 || event.defaultPrevented) return;
    isMiddleHeld = true;
    app.canvas.processMouseDown(event);
  });
  root.addEventListener("pointermove", (event) => {
    if (isMiddleHeld) app.canvas.processMouseMove(event);
  });
  root.addEventListener("pointerup", (event) => {
    if (!isMiddleHeld || event.button !== 1) return;
    isMiddleHeld = false;
    app.canvas.processMouseUp(event);
  });
}

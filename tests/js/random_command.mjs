import * as commands from "../../js/point_picker/model/commands.js";

/** One random command on a state; coordinates reach well outside the picture. */
export function randomCommand(state, random, { resize = true } = {}) {
  const point = () => [(random() * 2 - 0.5) * state.width, (random() * 2 - 0.5) * state.height];
  const index = Math.floor(random() * state.pairs.length);
  const pending = commands.pendingIndex(state);
  const choices = [
    () => commands.addHandle(state, point()),
    () => (pending >= 0 ? commands.setEnd(state, pending, "target", point()) : commands.addHandle(state, point())),
    () => (state.pairs.length ? commands.setEnd(state, index, "handle", point()) : state),
    () => (state.pairs.length ? commands.movePair(state, index, ...point()) : state),
    () => (state.pairs.length && random() < 0.3 ? commands.removePair(state, index) : state),
    () => (random() < 0.05 ? commands.removeAllPoints(state) : state),
    () => (state.pairs.length ? commands.setReach(state, index, (random() - 0.2) * state.width) : state),
    () => commands.addPin(state, point()),
    () => (state.pins.length ? commands.setEnd(state, state.pins.length - 1, "pin", point()) : state),
    () => (state.pins.length && random() < 0.5 ? commands.removeAt(state, { index: 0, end: "pin" }) : state),
    () => commands.paint(state, { erase: random() < 0.5, diameter: 1 + 30 * random(), points: [point(), point()] }),
    () => commands.invertMask(state),
    () => (random() < 0.1 ? commands.clearMask(state) : state),
    () => (resize ? commands.fittedToPicture(state, { width: 1 + Math.floor(random() * 300), height: 1 + Math.floor(random() * 300) }).state : state),
  ];
  return choices[Math.floor(random() * choices.length)]();
}

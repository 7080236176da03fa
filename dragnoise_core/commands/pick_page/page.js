/** The page of `dragnoise pick`: one picker on one picture, whose points go back to the command. */

import { PointPicker } from "./point_picker/view/point_picker.js";

const done = document.getElementById("done");
const main = document.getElementById("picker");
const picker = new PointPicker({ canPaint: false, language: navigator.language });
window.picker = picker;

// The command sees by this connection that the page is open, and ends when it closes.
const alive = new EventSource("alive");
alive.addEventListener("error", () => {
  alive.close();
  if (main.contains(picker.root)) end("The command has ended; close this page.");
});

function end(text) {
  done.remove();
  picker.disconnect();
  main.textContent = text;
}

async function handOver() {
  const answer = await fetch("points", { method: "POST", body: picker.model.text });
  const text = await answer.text();
  if (answer.ok) end("Done. You can close this page.");
  else picker.say(text, true);
}

done.addEventListener("click", handOver);
addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) handOver();
});
addEventListener("beforeunload", (event) => {
  if (picker.model.canUndo && done.isConnected) event.preventDefault();
});

const picture = new Image();
picture.src = "picture.png";
await picture.decode();
main.append(picker.root);
picker.connect();
picker.setPicture(picture, { width: picture.naturalWidth, height: picture.naturalHeight });
const start = await (await fetch("points")).text();
if (start) picker.model.load(start);
picker.focus();

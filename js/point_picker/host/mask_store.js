/** Keeps the painted mask in the host's input folder, as its own painter does: the workflow holds a file's name. */

import { fileFromName, fileUrl } from "./picture_source.js";

const FOLDER = "dragnoise";

/** Upload a PNG; returns the name under which the host's loaders find it. Throws when the host does not take it. */
export async function uploadMask(blob, api) {
  const body = new FormData();
  body.append("image", blob, `mask_${Date.now()}.png`);
  body.append("subfolder", FOLDER);
  body.append("type", "input");
  const response = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!response.ok) throw new Error(`the server answered ${response.status} ${response.statusText}`);
  const { name, subfolder } = await response.json();
  return `${subfolder ? `${subfolder}/` : ""}${name} [input]`;
}

/** Load the picture that a stored name stands for. */
export function loadMask(name, api) {
  return loadPicture(fileUrl(fileFromName(name), api));
}

/** Load a picture. Rejected when there is none at the address. */
export async function loadPicture(url) {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  return picture;
}

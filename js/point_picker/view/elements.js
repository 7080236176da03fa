/** Building blocks of the page. */

import { icon } from "./icons.js";

/** A new element with a class, attributes and children (elements or text). */
export function element(tag, className, attributes = {}, ...children) {
  const created = document.createElement(tag);
  if (className) created.className = className;
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children);
  return created;
}

/** A button with an icon; `label` is its tooltip and what screen readers say, `shortcut` follows in the tooltip. */
export function iconButton(iconName, label, shortcut, onPress) {
  const title = shortcut ? `${label} (${shortcut})` : label;
  const button = element("button", "", { type: "button", "aria-label": label, title, tabindex: "-1" }, icon(iconName));
  button.addEventListener("click", onPress);
  return button;
}

/** Load the picker's style sheet into the page, once. */
export function ensureStyleSheet() {
  const href = new URL("./picker.css", import.meta.url).href;
  const links = [...document.querySelectorAll("link[rel=stylesheet]")];
  if (links.some((link) => link.href === href)) return;
  document.head.append(element("link", "", { rel: "stylesheet", href }));
}

// Elements of the page, and the words and numbers in them.

export const $ = (id) => document.getElementById(id);
export const clone = (id) => $(id).content.firstElementChild.cloneNode(true);
export const parts = (root) => Object.fromEntries([...root.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));

export function clock(milliseconds) {
  const total = Math.max(0, Math.ceil(milliseconds / 1000));
  const [hours, ...rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const [minutes, seconds] = rest.map((number) => String(number).padStart(2, "0"));
  return hours ? `${hours}:${minutes}:${seconds}` : `${Number(minutes)}:${seconds}`;
}

export const sizes = new Intl.NumberFormat("en", { style: "unit", unit: "byte", notation: "compact", unitDisplay: "narrow" });

export function stamp(element, milliseconds, style) {
  const date = new Date(milliseconds);
  if (Number.isNaN(date.getTime())) return;
  element.dateTime = date.toISOString();
  element.textContent = date.toLocaleString(undefined, style);
}

export function say(text) {
  clearTimeout(say.timer);
  $("toast").textContent = "";
  requestAnimationFrame(() => ($("toast").textContent = text)); // a repeated text is announced again
  say.timer = setTimeout(() => ($("toast").textContent = ""), 4000);
}

// The console page: messages by conversation, each with its media.

import { $, clone, parts, stamp } from "./elements.js";
import { Problem, call, keyOf } from "./gateway.js";
import { makeMedia, tick, views } from "./media.js";

const cards = new Map(); // message sid and its media -> {card, other}: the element, and the party at the other end
let shown = null; // the conversation that is shown; null shows all

function paint(avatar, name) {
  avatar.style.setProperty("--hue", [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7));
  avatar.textContent = name.replace(/[^\p{L}\p{N}]/gu, "").slice(-2);
}

function makeMessage(message) {
  const card = clone("t-message");
  const part = parts(card);
  const inbound = String(message.direction).startsWith("inbound");
  const other = String((inbound ? message.from : message.to) ?? "Unknown");
  card.dataset.direction = inbound ? "in" : "out";
  for (const name of ["from", "to", "body"]) part[name].textContent = message[name] ?? "";
  part.arrow.setAttribute("href", inbound ? "#i-in" : "#i-out");
  part.direction.textContent = inbound ? "Received" : "Sent";
  stamp(part.time, message.date ?? NaN, { dateStyle: "medium", timeStyle: "short" });
  paint(part.avatar, other);
  card.append(...(message.media ?? []).map((sent) => makeMedia(sent, message)));
  return { card, other };
}

function showThreads() {
  const counts = new Map([[null, cards.size]]);
  for (const { other } of cards.values()) counts.set(other, (counts.get(other) ?? 0) + 1);
  if (!counts.has(shown)) shown = null;
  for (const { card, other } of cards.values()) card.hidden = shown !== null && other !== shown;
  const rows = [...counts].map(([name, count]) => {
    const row = clone("t-thread");
    const part = parts(row);
    part.button.ariaPressed = String(name === shown);
    part.who.textContent = name ?? "Everyone";
    part.count.textContent = count;
    name ? paint(part.avatar, name) : (part.avatar.textContent = "∗");
    part.button.addEventListener("click", () => {
      shown = name;
      showThreads();
      $("threads").querySelector("[aria-pressed=true]").focus();
    });
    return row;
  });
  $("threads").replaceChildren(...rows);
  $("nav").hidden = counts.size < 3;
}

// Cards that stay are not moved, so that a playing media goes on playing.
function showMessages(messages) {
  const wanted = new Map(messages.map((message) => [[message.sid, ...(message.media ?? []).map(keyOf)].join(), message]));
  for (const [key, { card }] of cards) {
    if (wanted.has(key)) continue;
    for (const figure of card.querySelectorAll("figure")) views.delete(figure.dataset.key);
    card.remove();
    cards.delete(key);
  }
  let place = $("messages").firstElementChild;
  for (const [key, message] of wanted) {
    if (!cards.has(key)) cards.set(key, makeMessage(message));
    const { card } = cards.get(key);
    if (card === place) place = place.nextElementSibling;
    else $("messages").insertBefore(card, place);
  }
  $("empty").hidden = messages.length > 0;
  $("tally").textContent = `${cards.size} message${cards.size === 1 ? "" : "s"}, ${views.size} media`;
  showThreads();
  tick();
}

async function load() {
  for (const button of [$("reload"), $("retry")]) button.ariaBusy = "true";
  $("feed").ariaBusy = "true";
  $("failed").hidden = true;
  try {
    showMessages((await call("messages.json")).messages);
  } catch (error) {
    const problem = Problem.from(error);
    $("failed-title").textContent = problem.message;
    $("failed-detail").textContent = problem.detail;
    [$("failed").hidden, $("empty").hidden] = [false, true];
  }
  for (const button of [$("reload"), $("retry")]) button.ariaBusy = "false";
  $("loading").hidden = true;
  $("feed").ariaBusy = "false";
  document.documentElement.dataset.ready = "true";
}

for (const button of [$("reload"), $("retry")]) button.addEventListener("click", load);
document.addEventListener("visibilitychange", tick);
setInterval(tick, 1000);
load();

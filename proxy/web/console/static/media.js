// One media on the page: shown through its newest link, described by the headers of its answer, minted by hand.

import { $, clock, clone, parts, say, sizes, stamp } from "./elements.js";
import { Problem, beside, cacheState, keyOf, mint, now, readLink } from "./gateway.js";

export const views = new Map(); // "message/media" -> one media on the page, with its newest link
const renewal = { running: false, failures: 0, after: 0 };

async function renew(chosen) {
  const minted = await mint(chosen);
  for (const view of chosen) {
    Object.assign(view, { link: minted.get(view.key), refused: false });
    view.stage.querySelector("a")?.setAttribute("href", beside(view.link.url));
  }
}

async function reach(view) {
  const live = view.link && now() < view.link.expires;
  if (!live) await (view.renewing ??= renew([view]).finally(() => (view.renewing = null)));
  return beside(view.link.url);
}

// One media that may not be minted fails the whole call: halve the list until that media is alone, and leave it out.
async function renewAll(chosen) {
  try {
    await renew(chosen);
  } catch (error) {
    if (![400, 403, 404, 409].includes(error.status)) throw error;
    if (chosen.length === 1) return Object.assign(chosen[0], { refused: true });
    const middle = chosen.length >> 1;
    for (const half of [chosen.slice(0, middle), chosen.slice(middle)]) await renewAll(half);
  }
}

// --- what is shown -----------------------------------------------------------------------------------------------

const fileNames = {
  "application/pdf": "PDF document", "text/vcard": "Contact card", "text/x-vcard": "Contact card", "text/plain": "Text",
  "text/calendar": "Calendar entry",
};

function showFile(view, source, note) {
  const card = clone("t-file");
  const part = parts(card);
  const opens = ["application/pdf", "text/plain"].includes(view.type);
  part.sheet.textContent = view.type.split("/")[1]?.replace(/^x-/, "").slice(0, 5) || "file";
  part.name.textContent = fileNames[view.type] ?? (view.type || "File");
  part.note.textContent = note ?? (opens ? "Opens in a new tab" : "Saves to this device");
  part.icon.setAttribute("href", opens ? "#i-open" : "#i-save");
  card.toggleAttribute("download", !opens);
  card.href = source;
  view.stage.replaceChildren(card);
  view.figure.classList.add("is-file");
}

function keepShape(view, width, height) {
  if (width && height) view.stage.style.setProperty("--ratio", Math.min(1.9, Math.max(0.75, width / height)));
  if (view.kind === "image") view.stage.style.setProperty("--wide", `${width}px`);
  view.stage.classList.add("is-loaded");
}

// An image, video or audio element keeps the link that it was given, so that a playing media goes on playing. It takes
// a newer link only when its own has expired and is needed: on an error, or when the user plays or seeks.
function showElement(view, source) {
  const frame = view.kind === "image" ? clone("t-image") : null;
  const element = frame?.querySelector("img") ?? document.createElement(view.kind);
  const fragment = (at) => (view.kind === "image" ? "" : `#t=${at || 0.001}`); // iOS paints a first frame only with #t
  let [used, swapping] = [view.link, false];
  const swap = async () => {
    if (swapping) return;
    swapping = true;
    const playing = element.paused === false;
    const newer = await reach(view).catch((error) => complain(view, Problem.from(error)));
    swapping = false;
    if (!newer) return;
    used = view.link;
    element.src = newer + fragment(element.currentTime);
    if (playing) element.play().catch(() => {});
  };
  element.addEventListener("error", () => {
    if (used !== view.link || now() >= used.expires) swap();
    else showFile(view, source, "This browser cannot show this file");
  });
  if (frame) {
    element.alt = `Image ${view.route}`;
    element.addEventListener("load", () => keepShape(view, element.naturalWidth, element.naturalHeight));
    frame.addEventListener("click", async () => {
      if (now() >= used.expires) await swap();
      enlarge(element);
    });
  } else {
    Object.assign(element, { controls: true, preload: "metadata", playsInline: true });
    element.setAttribute("aria-label", `${view.kind === "video" ? "Video" : "Recording"} ${view.route}`);
    element.addEventListener("loadedmetadata", () => keepShape(view, element.videoWidth, element.videoHeight));
    for (const event of ["play", "seeking"]) element.addEventListener(event, () => now() >= used.expires && swap());
  }
  element.src = source + fragment(0);
  view.figure.classList.remove("is-file");
  view.stage.replaceChildren(frame ?? element);
}

function complain(view, problem) {
  view.figure.classList.toggle("is-broken", Boolean(problem));
  view.problem.hidden = !problem;
  view.problem.textContent = problem?.words ?? "";
}

async function inspect(view) {
  view.ask.ariaBusy = "true";
  let [problem, state, took] = [null, "error", ""];
  try {
    const source = await reach(view);
    // A directive that does not affect a cache: without one, the browser would add `no-cache` (RFC 9111 §5.4).
    const options = { cache: "no-store", headers: { "Cache-Control": "no-transform" }, signal: AbortSignal.timeout(60_000) };
    const begun = performance.now();
    const answer = await fetch(source, { ...options, method: "HEAD" });
    await answer.text(); // an unread answer counts as broken off, even though HEAD has no content
    took = `in ${Math.ceil(performance.now() - begun)} ms`;
    if (!answer.ok) throw await Problem.of(await fetch(source, options)); // the answer to HEAD has no text
    const field = (name) => answer.headers.get(name);
    const age = { age: field("Age"), maxAge: /\bmax-age=(\d+)/.exec(field("Cache-Control"))?.[1] };
    for (const [name, seconds] of Object.entries(age)) view[name].textContent = seconds ? `${seconds} s` : "–";
    const texts = { cacheStatus: "Cache-Status", etag: "ETag", contentType: "Content-Type" };
    for (const [name, header] of Object.entries(texts)) view[name].textContent = view[name].title = field(header) ?? "–";
    view.contentLength.textContent = field("Content-Length") ? sizes.format(field("Content-Length")) : "–";
    state = cacheState(field("Cache-Status"));
  } catch (error) {
    problem = Problem.from(error);
  }
  complain(view, problem);
  view.badge.dataset.state = view.badge.textContent = state;
  view.took.textContent = took;
  view.ask.ariaBusy = "false";
  return !problem;
}

async function show(view) {
  const source = await reach(view).catch(() => null); // `inspect` shows the reason
  if (source) (view.kind === "file" ? showFile : showElement)(view, source);
}

const nearby = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
    nearby.unobserve(target);
    for (const step of [inspect, show]) step(views.get(target.dataset.key));
  }
}, { rootMargin: "1000px" });

// --- minting by hand -----------------------------------------------------------------------------------------

async function copy(field) {
  try {
    await navigator.clipboard.writeText(field.value); // absent on plain http
    return true;
  } catch {
    field.select();
    return document.execCommand("copy");
  }
}

function prepareMint(view) {
  const { form, opener, submit, url, formProblem: complaint } = view;
  const { ttl, filename, disposition } = form.elements;
  ttl.addEventListener("input", () => (view.hint.textContent = ttl.value > 0 ? `= ${clock(ttl.value * 1000)}` : ""));
  opener.addEventListener("click", () => {
    form.hidden = !form.hidden;
    opener.ariaExpanded = String(!form.hidden);
    if (!form.hidden) ttl.focus();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.ariaBusy = "true";
    const name = filename.value.trim();
    const options = { ttl: Number(ttl.value), disposition: disposition.value, ...(name && { filename: name }) };
    let problem = null;
    try {
      const link = (view.minted = (await mint([view], options)).get(view.key));
      url.value = view.open.href = link.url;
      stamp(view.expires, link.expires, { timeStyle: "medium" });
      stamp(view.refresh, link.refresh, { timeStyle: "medium" });
      say("Link minted");
    } catch (error) {
      problem = Problem.from(error);
    }
    for (const input of [ttl, filename]) input.ariaInvalid = String(Boolean(problem?.fields.has(input.name)));
    view.result.hidden = Boolean(problem);
    complaint.hidden = !problem;
    complaint.textContent = problem?.words ?? "";
    submit.ariaBusy = "false";
    tick();
  });
  view.copy.addEventListener("click", async () => {
    say((await copy(url)) ? "Link copied" : "The browser does not allow copying. The link is selected.");
  });
}

// --- links expire, and are renewed ---------------------------------------------------------------------------

export function tick() {
  if (document.hidden) return;
  for (const { link, minted, left, ring, mintedLeft } of views.values()) {
    if (minted) mintedLeft.textContent = clock(minted.expires - now());
    if (!link) continue;
    left.textContent = clock(link.expires - now());
    ring.style.setProperty("--life", Math.max(0, link.expires - now()) / Math.max(1, link.expires - link.received));
    ring.toggleAttribute("data-low", now() >= link.refresh);
  }
  renewDue();
}

async function renewDue() {
  const due = [...views.values()].filter(({ link, refused }) => link && !refused && now() >= link.refresh).slice(0, 100);
  if (renewal.running || !due.length || now() < renewal.after) return;
  renewal.running = true;
  try {
    await renewAll(due);
    Object.assign(renewal, { failures: 0, after: now() + 2000 });
  } catch (error) {
    renewal.after = now() + 5000 * 2 ** Math.min(5, renewal.failures++);
    if (renewal.failures === 1) say(`Links could not be renewed. ${Problem.from(error).words}`);
  }
  renewal.running = false;
}

export function makeMedia(sent, message) {
  const figure = clone("t-media");
  const type = String(sent.content_type ?? "").split(";")[0].trim().toLowerCase();
  const kind = type === "application/ogg" ? "audio" : (/^(image|video|audio)\//.exec(type)?.[1] ?? "file");
  const { account_sid, message_sid, media_sid } = sent;
  const known = { figure, type, kind, key: keyOf(sent), ref: { account_sid, message_sid, media_sid } };
  const view = { ...parts(figure), ...known, route: `from ${message.from} to ${message.to}`, link: readLink(sent) };
  Object.assign(figure.dataset, { mediaSid: media_sid, kind, key: view.key });
  view.ask.addEventListener("click", async () => {
    const answered = await inspect(view);
    if (answered && !view.stage.matches(".is-loaded")) show(view);
    say(answered ? `${view.badge.textContent}, age ${view.age.textContent}` : "The media could not be read");
  });
  prepareMint(view);
  views.set(view.key, view);
  nearby.observe(figure);
  return figure;
}

// --- the larger view -----------------------------------------------------------------------------------------

function enlarge(image) {
  Object.assign($("viewer-image"), { src: image.src, alt: image.alt });
  $("viewer-caption").textContent = image.alt;
  $("viewer").showModal();
}

$("viewer").addEventListener("click", ({ target }) => target.matches("p, img") || $("viewer").close());

// The page's calls of the gateway. All that comes back is untrusted text: a link is used only if it is http(s).

let skew = 0; // the server's clock minus the browser's, in milliseconds

export const now = () => Date.now() + skew;

export class Problem extends Error {
  constructor(title, { detail, errors, status } = {}) {
    super(title);
    const wrong = Array.isArray(errors) ? errors.filter(Boolean) : [];
    const sentences = [detail, ...wrong.map(({ field, message }) => `${field}: ${message}`)].filter(Boolean);
    Object.assign(this, { status, detail: sentences.join(" "), fields: new Set(wrong.map(({ field }) => field)) });
    this.words = [title, ...sentences].map((words) => `${words}`.replace(/\.?$/, ".")).join(" ");
  }

  static async of(answer) {
    const json = /\bjson\b/.test(answer.headers.get("Content-Type"));
    const told = json ? await answer.json().catch(() => null) : await answer.body?.cancel();
    return new Problem(String(told?.title || `The gateway answered ${answer.status}`), { ...told, status: answer.status });
  }

  static from(error) {
    if (error instanceof Problem) return error;
    if (error.name === "TimeoutError") return new Problem("The gateway took too long to answer");
    return new Problem("The gateway cannot be reached", { detail: "Check that it is running, then try again." });
  }
}

export async function call(path, body) {
  const post = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const target = new URL(`console/${path}`, document.baseURI);
  const answer = await fetch(target, { ...post, cache: "no-store", signal: AbortSignal.timeout(60_000) });
  if (!answer.ok) throw await Problem.of(answer);
  const drift = Date.parse(answer.headers.get("Date")) - Date.now();
  skew = Math.abs(drift) > 2000 ? drift : 0;
  return answer.json();
}

export function readLink(sent) {
  const [expires, refresh] = [Date.parse(sent.expires_at), Date.parse(sent.refresh_at)];
  const safe = URL.canParse(sent.url) && /^https?:$/.test(new URL(sent.url).protocol);
  return safe && expires ? { url: sent.url, expires, refresh: refresh || expires, received: now() } : null;
}

// The page reads media from its own origin, as its policy requires, even if the public URL names another origin: the
// signature covers the target from /media/ on, so the same target beside this page is the same link.
export function beside(url) {
  const target = /\/(media\/[^/?#]+\/[^/?#]+\/[^/?#]*\?[^#]*)/.exec(url)?.[1];
  return target ? new URL(target, document.baseURI).href : url;
}

export const keyOf = ({ message_sid, media_sid }) => `${message_sid}/${media_sid}`;

export async function mint(chosen, options) {
  const { links } = await call("links", { media: chosen.map((view) => view.ref), ...options });
  const minted = new Map(links.map((sent) => [keyOf(sent), readLink(sent)]));
  if (chosen.some((view) => !minted.get(view.key))) throw new Problem("The gateway sent no usable link");
  return minted;
}

// RFC 9211: the member that names this gateway, or else the last one, which is the nearest to the browser.
export function cacheState(field) {
  const members = field?.match(/(?:"[^"]*"|[^,"])+/g) ?? [];
  const member = members.find((text) => /^\s*"?media-gateway\b/.test(text)) ?? members.at(-1) ?? "";
  if (/;\s*hit\b/.test(member)) return "hit";
  const forwarded = /;\s*fwd=([\w-]+)/.exec(member)?.[1];
  return { stale: "validated", bypass: "bypass", undefined: "unknown" }[forwarded] ?? "miss";
}

// Takes an order a line from standard input, makes its calls with a provider's own library, one after another, and
// prints a line with what came of each: {"value": …} or {"error": …}. Each order has a client of its own.
"use strict";

const { createInterface } = require("node:readline");

function makeClient({ library, base, space, username, password, account, options }) {
  if (library === "twilio") {
    const client = require("twilio")(username, password, { accountSid: account, ...options });
    client.api.baseUrl = base;
    return client;
  }
  const { RestClient } = require("@signalwire/compatibility-api");
  // The library wants a space, and speaks https to it, unless it is pointed elsewhere afterwards.
  const client = RestClient(username, password, { signalwireSpaceUrl: space ?? "space.invalid", ...options });
  if (base) client.api.baseUrl = base;
  return client;
}

// A moment stands for a Date, anything else for itself.
const DATES = ["dateCreated", "dateCreatedBefore", "dateCreatedAfter"];
function filters(options = {}) {
  const entries = Object.entries(options).map(([name, value]) => [
    name,
    DATES.includes(name) && value.endsWith("Z") ? new Date(value) : value,
  ]);
  return Object.fromEntries(entries);
}

const sids = (media) => media.map(({ sid }) => sid);

const CALLS = {
  fetch: (media, { sid }) => media(sid).fetch(),
  fetchMany: (media, { sids }) => Promise.all(sids.map((sid) => media(sid).fetch())),
  remove: (media, { sid }) => media(sid).remove(),
  list: async (media, { options }) => sids(await media.list(filters(options))),
  each: (media, { options }) =>
    new Promise((resolve, reject) => {
      const seen = [];
      const done = (error) => (error ? reject(error) : resolve(sids(seen)));
      media.each({ ...filters(options), done }, (one) => seen.push(one));
    }),
  // Forward to the last page, then back to the first.
  pages: async (media, { options }) => {
    const seen = [];
    let page = await media.page(filters(options));
    for (let next = page; next; next = await page.nextPage()) {
      page = next;
      seen.push(sids(page.instances));
    }
    for (let previous = await page.previousPage(); previous; previous = await page.previousPage()) {
      page = previous;
      seen.push(sids(page.instances));
    }
    return seen;
  },
  pageAt: async (media, { options }) => {
    const first = await media.page(filters(options));
    return sids((await media.getPage(first.nextPageUrl)).instances);
  },
  fetchOnItsOwn: async (media, { sid }) => {
    const [one] = (await media.list()).filter((listed) => listed.sid === sid);
    return one.fetch();
  },
};

const failure = ({ name, status, code, message, moreInfo }) => ({ name, status, code, message, moreInfo });

async function outcomesOf(order) {
  const client = makeClient(order);
  const outcomes = [];
  for (const { call, message, ...rest } of order.calls) {
    const messages = order.account ? client.api.v2010.accounts(order.account).messages : client.messages;
    try {
      outcomes.push({ value: await CALLS[call](messages(message).media, rest) });
    } catch (error) {
      outcomes.push({ error: failure(error) });
    }
  }
  return outcomes;
}

async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await outcomesOf(JSON.parse(line)))}\n`);
  }
}

main();

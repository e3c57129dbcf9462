const express = require("express");
const twilio = require("twilio");

const { GATEWAY, CLIENT, WEBHOOK_URL, PORT = 3000 } = process.env;
const messages = new Map(); // your database, by MessageSid: the form and its links

async function mint(form) {
  const headers = { Authorization: `Basic ${btoa(CLIENT)}`, "Content-Type": "application/x-www-form-urlencoded" };
  const answer = await fetch(`${GATEWAY}/links`, { method: "POST", headers, body: form });
  if (!answer.ok) throw new Error(`The gateway answered ${answer.status}`);
  return (await answer.json()).links;
}

const app = express();
const asItCame = express.urlencoded({ verify: (request, response, body) => (request.form = body) });
app.post("/incoming", asItCame, twilio.webhook({ url: WEBHOOK_URL }), async (request, response) => {
  messages.set(request.body.MessageSid, { form: request.form, links: await mint(request.form) });
  response.type("text/xml").send("<Response/>");
});
app.get("/messages/:sid/media", async (request, response) => {
  const message = messages.get(request.params.sid);
  if (!message) return response.sendStatus(404);
  const stale = message.links.some(({ refresh_at }) => new Date(refresh_at) < new Date());
  response.json(stale ? await mint(message.form) : message.links);
});
const server = app.listen(PORT, () => console.log(`listening on port ${server.address().port}`));

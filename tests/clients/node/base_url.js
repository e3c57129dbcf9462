// Loaded before a program of the documents: clients that it makes ask MEDIA_API_URL in place of the provider.
"use strict";

const twilio = require("twilio");

function elsewhere(...given) {
  const client = twilio(...given);
  client.api.baseUrl = process.env.MEDIA_API_URL;
  return client;
}

require.cache[require.resolve("twilio")].exports = Object.assign(elsewhere, twilio);

// Download the helper library from https://www.twilio.com/docs/node/install
const twilio = require("twilio"); // Or, for ESM: import twilio from "twilio";

// Find your Account SID and Auth Token at twilio.com/console
// and set the environment variables. See http://twil.io/secure
const accountSid = process.env.TWILIO_ACCOUNT_SID;
const authToken = process.env.TWILIO_AUTH_TOKEN;
const client = twilio(accountSid, authToken);

async function deleteMedia() {
  await client
    .messages("MM800f449d0399ed014aae2bcc0cc2f2ec")
    .media("ME557ce644e5ab84fa21cc21112e22c485")
    .remove();
}

deleteMedia();

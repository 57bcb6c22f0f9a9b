// @ts-check
/** What an OpenAI-compatible API is asked, and what comes of its answer; over HTTP, from one that listens here. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { BuiltIn, OpenAiCompatible } from "../answers.js";

/** @type {{path: string | undefined, authorization: string | undefined, body: string}[]} */
const asked = [];
const server = createServer(async (request, response) => {
  let body = "";
  for await (const part of request.setEncoding("latin1")) body += part;
  asked.push({ path: request.url, authorization: request.headers.authorization, body });
  if (request.url === "/v1/audio/transcriptions") response.end('{"text": "Who are you?"}');
  else if (request.url === "/v1/chat/completions") {
    for (const content of ["I am", " your voice."]) {
      response.write(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
    }
    response.end('data: {"choices":[]}\n\ndata: [DONE]\n\n');
  } else response.writeHead(404).end();
});

before(async () => {
  server.listen(0);
  await once(server, "listening");
});
after(() => server.close());

/** @param {string} api */
const at = (api) => {
  const { port } = /** @type {{port: number}} */ (server.address());
  return new OpenAiCompatible({ api: `http://localhost:${port}/${api}`, key: "k", transcriber: "t", writer: "w" });
};

/** @param {AsyncIterable<string>} text */
async function all(text) {
  let whole = "";
  for await (const part of text) whole += part;
  return whole;
}

test("what was said is transcribed and answered, and what was not heard is not remembered", async () => {
  const answerer = at("v1/");
  const turn = new Blob(["RIFF…"], { type: "audio/wav" });
  const { question, text } = await answerer.answer(turn);
  assert.equal(question, "Who are you?");
  assert.equal(await all(text), "I am your voice.");
  answerer.heard("I am");
  await all((await answerer.answer(turn)).text);

  assert.match(asked[0]?.body ?? "", /filename="turn.wav"[^]*RIFF[^]*name="model"\r\n\r\nt\r\n/);
  assert.ok(asked.every(({ authorization }) => authorization === "Bearer k"));
  const { model, stream, messages } = JSON.parse(asked[3]?.body ?? "");
  assert.deepEqual({ model, stream }, { model: "w", stream: true });
  assert.deepEqual(
    messages.slice(1).map((/** @type {{role: string, content: string}} */ { role, content }) => [role, content]),
    [
      ["user", "Who are you?"],
      ["assistant", "I am"],
      ["user", "Who are you?"],
    ],
  );
});

test("an API that refuses is an error in words", async () => {
  await assert.rejects(at("nothing").answer(new Blob([])), { message: /audio\/transcriptions with 404/ });
});

test("without an API, the answer says what was heard of the last", async () => {
  const answerer = new BuiltIn();
  await answerer.answer(new Blob([]), 2);
  answerer.heard("I heard you for 2 seconds.");
  assert.match(await all((await answerer.answer(new Blob([]), 1)).text), /was: you for 2 seconds\./);
});

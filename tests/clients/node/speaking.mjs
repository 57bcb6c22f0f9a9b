// The openai package for Node, as it is. What it saw of a service with the scripted engine goes to stdout as JSON.
// The address of the service and a clip are its arguments.
import { createReadStream } from "node:fs";
import OpenAI from "openai";

const [url, clip] = process.argv.slice(2);
const client = new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 0 });
const spoken = { model: "tts-1", voice: "alloy", input: "The lamps are lit." };
const formats = ["mp3", "opus", "aac", "flac", "wav", "pcm"];

const base64 = async (answer) => Buffer.from(await answer.arrayBuffer()).toString("base64");

async function inEveryFormat() {
  const seen = {};
  for (const format of formats) {
    const answer = await client.audio.speech.create({ ...spoken, response_format: format });
    seen[format] = { media: answer.headers.get("content-type"), audio: await base64(answer) };
  }
  return seen;
}

async function events() {
  const wanted = { ...spoken, model: "gpt-4o-mini-tts", response_format: "pcm", stream_format: "sse" };
  const body = await (await client.audio.speech.create(wanted)).text();
  const lines = body.split("\n").filter((line) => line.startsWith("data: "));
  return lines.map((line) => JSON.parse(line.slice("data: ".length)));
}

async function aVoice() {
  const made = await client.audio.voices.create({
    audio_sample: createReadStream(clip), name: "Nora", consent: "cons_1234",
  });
  const answer = await client.audio.speech.create({ ...spoken, voice: { id: made.id } });
  const bytes = (await answer.arrayBuffer()).byteLength;
  return { made, bytes, deleted: await client.audio.voices.delete(made.id) };
}

async function failure(wanted) {
  try {
    await client.audio.speech.create({ ...spoken, ...wanted });
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
  return null;
}

async function leaving() {
  const leaver = new AbortController();
  const endless = { ...spoken, input: "{slow 0.2}One {endless}", response_format: "pcm" };
  const answer = await client.audio.speech.create(endless, { signal: leaver.signal });
  const first = await answer.body.getReader().read();
  leaver.abort();
  return first.value.byteLength;
}

const seen = {
  formats: await inEveryFormat(),
  events: await events(),
  voice: await aVoice(),
  models: (await client.models.list()).data.map((model) => model.id),
  "foreign text": await failure({ input: "{foreign}" }),
  "unknown voice": await failure({ voice: "nobody" }),
  "broken engine": await failure({ input: "{fail}" }),
  leaving: await leaving(),
};
console.log(JSON.stringify(seen));

/** What a program meets that speaks through a real service. */

import { setTimeout as delay } from "node:timers/promises";
import { NotConnected, SpeechCancelled, SpeechClient, SpeechError, type SpeechEvent } from "makima-tts-client";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { WebSocket } from "ws";
import { Service } from "./service.js";

const BYTES_PER_MS = 48;
const options = { play: false, WebSocket };

let client: SpeechClient;
let events: SpeechEvent[];

function open(url: string, more = {}): void {
  client = new SpeechClient({ ...options, url, ...more });
  events = [];
  client.subscribe((event) => events.push(event));
}

beforeEach(() => open(inject("url")));
afterEach(() => client.close());

/** The next event of this type, from now on. */
function next<T extends SpeechEvent["type"]>(type: T): Promise<Extract<SpeechEvent, { type: T }>> {
  return new Promise((resolve) => {
    const leave = client.subscribe((event) => {
      if (event.type !== type) return;
      leave();
      resolve(event as Extract<SpeechEvent, { type: T }>);
    });
  });
}

const failureOf = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => null, (failure) => failure);

const audioBytes = (id: string): number =>
  events.reduce(
    (sum, event) => sum + (event.type === "audio" && event.utteranceId === id ? event.pcm.byteLength : 0),
    0,
  );

test("connecting says what the service can do", async () => {
  const ready = await client.connect();
  expect(ready).toMatchObject({ engine: "scripted", voice: "narrator", protocolVersion: 1 });
  expect(client.state).toBe("ready");
  expect(await client.connect()).toBe(ready);
});

test("a text is spoken to its end, byte for byte as long as the service says", async () => {
  const speech = client.speak("Hello there.");
  let bytes = 0;
  for await (const pcm of speech) bytes += pcm.byteLength;
  const complete = await speech.done;
  expect(complete).toMatchObject({ utteranceId: speech.id, textLength: 12, finishReason: "stop" });
  expect(bytes).toBe(complete.audioLengthMs * BYTES_PER_MS);
  expect(client.isSpeaking).toBe(false);
});

test("texts are spoken one after the other", async () => {
  const [first, second] = ["The first.", "And the second."].map((text) => client.speak(text));
  await Promise.all([first!.done, second!.done]);
  const order = events.flatMap((event) => (event.type === "complete" ? [event.utteranceId] : []));
  expect(order).toEqual([first!.id, second!.id]);
});

test("cancel in mid-speech lets no more audio through, and the client can speak again", async () => {
  const speech = client.speak("Some words and no end {endless}");
  const queued = client.speak("Never heard.");
  await next("sentence");
  client.cancel({ playedMs: 500 });
  expect(client.isSpeaking).toBe(false);
  const heardBytes = audioBytes(speech.id);
  const failure = await failureOf(speech.done);
  expect(failure).toBeInstanceOf(SpeechCancelled);
  expect(failure).toMatchObject({ code: "CANCELLED", recoverable: true, playedMs: 500 });
  const { textSpoken, textRemaining } = failure as SpeechCancelled;
  expect(textSpoken).toMatch(/^Some/);
  expect(textSpoken + textRemaining).toBe(speech.text);
  const unheard = { textSpoken: "", textRemaining: queued.text };
  expect(await failureOf(queued.done)).toMatchObject(unheard);
  await client.speak("And again.").done;
  expect(audioBytes(speech.id)).toBe(heardBytes);
  expect(audioBytes(queued.id)).toBe(0);
});

test("live text is spoken while it is still being written", async () => {
  async function* tokens(): AsyncGenerator<string> {
    for (const token of ["Once upon a ti", "me there was a king. He had no"]) yield token;
    await next("audio");
    yield " queen.";
  }
  const speech = client.speak(tokens());
  const complete = await speech.done;
  expect(complete.textLength).toBe(51);
  expect(speech.text).toBe("Once upon a time there was a king. He had no queen.");
  expect(audioBytes(speech.id)).toBe(complete.audioLengthMs * BYTES_PER_MS);
});

test("with timings, each word is known before its audio is played, and by its place in the text", async () => {
  const speech = client.speak("Of **three** words.", { timings: "word" });
  const { audioLengthMs } = await speech.done;
  expect(speech.words.map(({ word }) => word)).toEqual(["Of", "three", "words"]);
  for (const { word, offset, length } of speech.words) {
    expect(speech.text.slice(offset, offset + length)).toBe(word);
  }
  const times = speech.words.flatMap(({ startMs, endMs }) => [startMs, endMs]);
  expect([0, ...times, audioLengthMs]).toEqual([0, ...times, audioLengthMs].sort((a, b) => a - b));
  const silent = client.speak("Two words.");
  await silent.done;
  expect(silent.words).toEqual([]);
});

test("flush has half a sentence spoken", async () => {
  let finish = () => {};
  async function* tokens(): AsyncGenerator<string> {
    yield "This one is not finished";
    await new Promise<void>((resolve) => (finish = resolve));
  }
  const speech = client.speak(tokens());
  const audio = next("audio");
  await client.connect();
  speech.flush();
  expect((await audio).utteranceId).toBe(speech.id);
  finish();
  await speech.done;
});

test("a writer is told to stop when nobody wants to hear more", async () => {
  let stopped = false;
  async function* tokens(): AsyncGenerator<string> {
    try {
      while (true) {
        yield "Word after word. ";
        await delay(5);
      }
    } finally {
      stopped = true;
    }
  }
  const speech = client.speak(tokens());
  await next("audio");
  client.cancel();
  await failureOf(speech.done);
  await expect.poll(() => stopped).toBe(true);
});

test("of a writer that fails, what it wrote is spoken, and its failure is told", async () => {
  const failure = new Error("The model is gone.");
  async function* tokens(): AsyncGenerator<string> {
    yield "A first sentence.";
    throw failure;
  }
  const speech = client.speak(tokens());
  expect(await failureOf(speech.done)).toBe(failure);
  expect(audioBytes(speech.id)).toBe(speech.complete!.audioLengthMs * BYTES_PER_MS);
});

test("a text longer than one message may be is spoken all the same", async () => {
  const text = "Ein längerer Satz. 🙂 ".repeat(60);
  const { textLength } = await client.speak(text, { language: "German" }).done;
  expect(textLength).toBe([...text].length);
});

test("a voice that is not there is an error with its code, and the next text is spoken", async () => {
  const failure = await failureOf(client.speak("Hello.", { voice: "nobody" }).done);
  expect(failure).toBeInstanceOf(SpeechError);
  expect(failure).not.toBeInstanceOf(SpeechCancelled);
  expect(failure).toMatchObject({ code: "VOICE_NOT_FOUND", recoverable: false });
  await client.speak("Hello.").done;
});

test("who takes the audio is thrown the failure after what had arrived", async () => {
  let bytes = 0;
  const take = async () => {
    for await (const pcm of client.speak("It breaks {fail} here.")) bytes += pcm.byteLength;
  };
  expect(await failureOf(take())).toMatchObject({ code: "SYNTHESIS_ERROR", recoverable: true });
  expect(bytes).toBeGreaterThan(0);
});

test("an interrupt at the service silences its conversation, and nobody asked here", async () => {
  client.close();
  open(inject("url"), { contractId: "conversation" });
  const speech = client.speak("{endless}");
  await next("audio");
  const interrupt = new URL("contracts/conversation/interrupt", inject("url"));
  expect(await (await fetch(interrupt, { method: "POST" })).json()).toEqual({ interrupted: 1 });
  expect(await failureOf(speech.done)).toBeInstanceOf(SpeechCancelled);
  expect(events.filter(({ type }) => type === "silenced")).toHaveLength(1);
});

test("what is given while an interrupt is on its way is spoken", async () => {
  const late: (() => void)[] = [];
  let isLate = false;
  class SlowToHear extends WebSocket {
    override emit(name: string | symbol, ...heard: unknown[]): boolean {
      if (isLate && name === "message") return late.push(() => super.emit(name, ...heard)) > 0;
      return super.emit(name, ...heard);
    }
  }
  client.close();
  open(inject("url"), { contractId: "conversation", WebSocket: SlowToHear });
  const unwanted = client.speak("{endless}");
  await next("audio");
  isLate = true;
  await fetch(new URL("contracts/conversation/interrupt", inject("url")), { method: "POST" });
  const wanted = client.speak("Something else.");
  await delay(0); // it is sent
  isLate = false;
  for (const hear of late) hear();
  expect(await failureOf(unwanted.done)).toBeInstanceOf(SpeechCancelled);
  expect(await wanted.done).toMatchObject({ utteranceId: wanted.id });
});

test("an interrupt is told though nothing is pending", async () => {
  client.close();
  open(inject("url"), { contractId: "conversation" });
  await client.speak("Good morning.").done;
  const told = next("interrupted");
  const interrupt = new URL("contracts/conversation/interrupt", inject("url"));
  expect(await (await fetch(interrupt, { method: "POST" })).json()).toEqual({ interrupted: 0 });
  await told;
});

test("closing cancels, and speaking wakes", async () => {
  const speech = client.speak("{stall}");
  await client.connect();
  client.close();
  expect(client.state).toBe("resting");
  expect(await failureOf(speech.done)).toBeInstanceOf(SpeechCancelled);
  await client.speak("Good morning.").done;
  expect(client.state).toBe("ready");
});

test("a text that was cancelled before it could be sent has ended too", async () => {
  const speech = client.speak("Never sent.");
  client.cancel();
  expect(await failureOf(speech.done)).toBeInstanceOf(SpeechCancelled);
  expect(events.filter(({ type }) => type === "error")).toHaveLength(1);
  expect(client.state).toBe("resting");
});

test("without Web Audio a client that shall play says so", async () => {
  open(inject("url"), { play: true });
  expect(await failureOf(client.speak("Hello.").done)).toMatchObject({ code: "NO_SOUND" });
});

test("an address that is none is refused at once", () => {
  expect(() => new SpeechClient({ ...options, url: "localhost/speak" })).toThrow(TypeError);
});

test("when the service is killed, its texts fail; when it is back, the next are spoken", async () => {
  const service = await Service.start();
  open(service.url);
  const speech = client.speak("Hello {stall}");
  await next("audio");
  const lost = next("state");
  await service.kill();
  expect(await failureOf(speech.done)).toMatchObject({ code: "CONNECTION_LOST", recoverable: true });
  expect(await lost).toMatchObject({ state: "lost", reason: "The connection to the service was lost." });

  const failure = (await failureOf(client.connect())) as NotConnected;
  expect(failure).toBeInstanceOf(NotConnected);
  expect(failure.retryInMs).toBeGreaterThan(0);

  const kept = client.speak("Here I am again.");
  const again = await Service.start(service.port);
  await kept.done;
  await again.kill();
});

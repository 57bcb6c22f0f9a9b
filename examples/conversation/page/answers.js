// @ts-check
/**
 *  The answers: recognized speech in, an answer out, while it is written.
 *
 * In: the audio of a turn; how much of the last answer was heard. Out: the transcript, and the answer in
 * chunks. Does not know: microphones, voices, the page.
 *
 * @typedef {object} Answer
 * @property {string} question The transcript of the turn.
 * @property {AsyncIterable<string>} text
 *
 * @typedef {object} Answerer
 * @property {(turn: Blob, durationS: number) => Promise<Answer>} answer The turn as a WAV file.
 * @property {(text: string) => void} heard The part of the last answer that was heard.
 */

/** A fixed answer, for trying the voice. @implements {Answerer} */
export class BuiltIn {
  #turns = 0;
  /** @type {string | null} */ #heard = null;

  /**
   * @param {Blob} _turn
   * @param {number} durationS
   */
  async answer(_turn, durationS) {
    return { question: `You spoke for ${durationS.toFixed(1)} s.`, text: words(this.#sentence(durationS)) };
  }

  /** @param {string} text */
  heard(text) {
    this.#heard = text;
  }

  /** @param {number} durationS */
  #sentence(durationS) {
    this.#turns += 1;
    if (this.#turns === 1) {
      return `I heard you for ${durationS.toFixed(1)} seconds. I cannot understand words without a model, \
but I can talk for a while, so that you can interrupt me. Just speak, and I will be silent at once.`;
    }
    const lastWords = this.#heard?.split(/\s+/).slice(-4).join(" ") ?? "";
    return lastWords === ""
      ? "You had me stop before I had said a word. Go on, I am listening."
      : `The last that you heard of me was: ${lastWords}. Shall I go on from there, \
or do you have something else in mind?`;
  }
}

/** @param {string} text */
async function* words(text) {
  yield* text.split(/(?<= )/);
}

/** An OpenAI-compatible API: transcription, then chat completions. @implements {Answerer} */
export class OpenAiCompatible {
  /** @type {{role: string, content: string}[]} */ #conversation = [
    { role: "system", content: "You are heard, not read: answer in a few short, plain sentences." },
  ];
  /** @type {{api: string, key: string, transcriber: string, writer: string}} */ #options;

  /** @param {{api: string, key: string, transcriber: string, writer: string}} options */
  constructor(options) {
    this.#options = options;
  }

  /** @param {Blob} turn */
  async answer(turn) {
    const form = new FormData();
    form.append("file", turn, "turn.wav");
    form.append("model", this.#options.transcriber);
    const { text } = await (await this.#ask("audio/transcriptions", form)).json();
    this.#conversation.push({ role: "user", content: text });
    return { question: text, text: this.#write() };
  }

  /** Only text that was heard stays in the history. @param {string} text */
  heard(text) {
    this.#conversation.push({ role: "assistant", content: text });
  }

  async *#write() {
    const request = { model: this.#options.writer, messages: this.#conversation, stream: true };
    const { body } = await this.#ask("chat/completions", JSON.stringify(request), "application/json");
    if (body === null) return;
    for await (const event of events(body)) {
      yield JSON.parse(event).choices[0]?.delta?.content ?? "";
    }
  }

  /**
   * @param {string} path
   * @param {BodyInit} body
   * @param {string} [type]
   */
  async #ask(path, body, type) {
    const { api, key } = this.#options;
    const headers = new Headers(type === undefined ? {} : { "Content-Type": type });
    if (key !== "") headers.set("Authorization", `Bearer ${key}`);
    const response = await fetch(`${api.replace(/\/$/, "")}/${path}`, { method: "POST", headers, body });
    if (!response.ok) throw new Error(`The API answered ${path} with ${response.status}.`);
    return response;
  }
}

/**
 * The data of server-sent events, up to `[DONE]`.
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 */
async function* events(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "data: [DONE]") return;
      if (line.startsWith("data: ")) yield line.slice(6);
    }
  }
}

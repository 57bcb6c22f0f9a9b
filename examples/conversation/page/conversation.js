// @ts-check
/**
 *  Full duplex: microphone → turns → answer → voice; speech interrupts the answer within a word.
 *
 * In: a client of the service, an Answerer. Out: events to show. Does not know: the wire, sound, the page.
 *
 * @import {SpeechClient} from "makima-tts-client"
 * @import {Answerer} from "./answers.js"
 *
 * @typedef {object} Observer
 * @property {(voice: number) => void} sounding The probability of a voice, every 10 ms.
 * @property {(status: string) => void} status
 * @property {(said: string) => void} question
 * @property {(id: string, text: string) => void} answer As far as it is written.
 * @property {(id: string, textSpoken: string, textRemaining: string) => void} interrupted
 * @property {(message: string) => void} failed
 */

import { SpeechCancelled, toPcm16, wavFile } from "makima-tts-client";
import { Microphone, SAMPLE_RATE_HZ } from "./microphone.js";
import { FRAME_MS, Turns } from "./turns.js";

export class Conversation {
  /** @type {SpeechClient} */ #client;
  /** @type {Answerer} */ #answerer;
  /** @type {Observer} */ #observer;
  /** @type {Microphone | null} */ #microphone = null;
  /** Counts turns: the answer to an older turn is dropped. */ #turn = 0;
  #turns = new Turns({ begun: () => this.#begun(), ended: (turn) => void this.#ended(turn) });

  /**
   * @param {SpeechClient} client
   * @param {Answerer} answerer
   * @param {Observer} observer
   */
  constructor(client, answerer, observer) {
    this.#client = client;
    this.#answerer = answerer;
    this.#observer = observer;
  }

  /** Call it in a click handler, as browsers require for microphone and sound. */
  async start() {
    await this.#client.openSound();
    await this.#client.connect();
    this.#microphone = await Microphone.open((frame, voice) => {
      this.#observer.sounding(voice);
      this.#turns.hear(frame, voice);
    });
    this.#observer.status("Listening.");
  }

  stop() {
    this.#turn += 1;
    this.#microphone?.close();
    this.#client.close();
    this.#observer.status("Stopped.");
  }

  /** Interrupts the answer. */
  #begun() {
    this.#turn += 1;
    this.#client.cancel();
    this.#observer.status("You are speaking.");
  }

  /** @param {Float32Array<ArrayBuffer>[]} frames */
  async #ended(frames) {
    const turn = this.#turn;
    this.#observer.status("Thinking …");
    try {
      const recording = wavFile(frames.map(toPcm16), SAMPLE_RATE_HZ);
      const { question, text } = await this.#answerer.answer(recording, (frames.length * FRAME_MS) / 1000);
      this.#observer.question(question);
      if (turn === this.#turn) await this.#say(text);
    } catch (failure) {
      this.#observer.failed(/** @type {Error} */ (failure).message);
    }
    if (turn === this.#turn) this.#observer.status("Listening.");
  }

  /** @param {AsyncIterable<string>} text */
  async #say(text) {
    const speech = this.#client.speak(text);
    const showText = () => this.#observer.answer(speech.id, speech.text);
    const leave = this.#client.subscribe((event) => {
      if (event.type === "progress") this.#observer.status("Speaking.");
      if (event.type === "progress" || event.type === "audio") showText();
    });
    try {
      await speech.done;
      this.#answerer.heard(speech.text);
    } catch (failure) {
      if (!(failure instanceof SpeechCancelled)) throw failure;
      this.#answerer.heard(failure.textSpoken);
      this.#observer.interrupted(speech.id, failure.textSpoken, failure.textRemaining);
    } finally {
      leave();
    }
  }
}

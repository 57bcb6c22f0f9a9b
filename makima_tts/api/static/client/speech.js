// @ts-check
/**
 *  One utterance.
 *
 * In: its text as written, its messages and audio, the position of playback. Out: a promise of its end; its
 * audio, if the client does not play it. Does not know: sockets, sound, other texts.
 *
 * @import {Complete, ErrorMessage, Sentence, TimedWord} from "./protocol.js"
 */

import { SpeechCancelled, SpeechError } from "./failures.js";
import { splitAtHeard } from "./heard-text.js";

export class Speech {
  /** Its text written so far. */ text = "";
  /** Its sentences with their times, as far as known. @type {Sentence[]} */ sentences = [];
  /** Its words with their times, with `timings`: before they are played. @type {TimedWord[]} */ words = [];
  /** All of its audio has arrived; it may still be playing. @type {Complete | null} */ complete = null;
  /** How much of it was played, if known. @type {number | undefined} */ playedMs;
  /** Some of it was sent. @internal */ isSent = false;
  /** It was cancelled. @internal */ isSilenced = false;
  /** It has ended, also by an error. */ isOver = false;
  /**
   * Resolves when it has been played; without playback, when its audio has arrived. Rejects with a
   * SpeechError, a SpeechCancelled, or the error of the iterable that writes its text.
   * @type {Promise<Complete>}
   */
  done;
  /** @type {(complete: Complete) => void} */ #resolve = () => {};
  /** @type {(failure: unknown) => void} */ #reject = () => {};
  /** @type {(id: string) => void} */ #flush;
  /** @type {ArrayBuffer[]} */ #audio = [];
  /** Resumes the iteration over its audio. */ #wake = () => {};
  /** @type {unknown} */ #failure = null;

  /**
   * Called by the client only.
   * @internal
   * @param {string} id
   * @param {(id: string) => void} flush
   */
  constructor(id, flush) {
    /** Its `utteranceId` in every event. */
    this.id = id;
    this.#flush = flush;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The promise may be ignored; without this a failure would be an unhandled rejection.
    this.done.catch(() => {});
  }

  /** Has the partial text spoken now, even within a sentence. */
  flush() {
    if (this.isSent && !this.isOver) this.#flush(this.id);
  }

  /** Its audio as it arrives, once, if the client does not play it. Throws as `done` does. */
  async *[Symbol.asyncIterator]() {
    while (true) {
      const pcm = this.#audio.shift();
      if (pcm !== undefined) yield pcm;
      else if (this.isOver) break;
      else await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    }
    if (this.#failure !== null) throw this.#failure;
  }

  /** @internal @param {ArrayBuffer} pcm */
  received(pcm) {
    this.#audio.push(pcm);
    this.#wake();
  }

  /** The text's iterable failed. @internal @param {unknown} failure */
  writerFailed(failure) {
    this.#failure = failure;
  }

  /** All of it was sent. @internal @param {Complete} complete */
  finish(complete) {
    if (this.#failure === null) this.#resolve(complete);
    this.#end();
  }

  /** @internal @param {ErrorMessage} error */
  fail(error) {
    this.#failure ??= error.code === "CANCELLED" ? this.#cancelled(error) : new SpeechError(error);
    this.#end();
  }

  #end() {
    this.isOver = true;
    this.#reject(this.#failure); // no effect if it has resolved
    this.#wake();
  }

  /** Prefers the service's figures to those of the client. @param {ErrorMessage} error */
  #cancelled(error) {
    const { playedMs } = this;
    return new SpeechCancelled({
      playedMs,
      ...splitAtHeard(this.text, this, playedMs ?? Infinity),
      ...error,
    });
  }
}

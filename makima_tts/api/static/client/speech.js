// @ts-check
/**
 * One text that a client speaks, from its first word to its end.
 *
 * In: what is written of it, what arrives for it, how far it has been heard. Out: a promise of its end; its
 * audio, when nobody plays it. Does not know: sockets, sound, other texts.
 *
 * @import {Complete, ErrorMessage, Sentence} from "./protocol.js"
 */

import { SpeechCancelled, SpeechError } from "./failures.js";
import { splitAtHeard } from "./heard-text.js";

export class Speech {
  /** What was asked for, as far as it has been written. */ text = "";
  /** When its pieces are spoken, as far as is known. @type {Sentence[]} */ sentences = [];
  /** All of its audio has arrived; it may still be heard. @type {Complete | null} */ complete = null;
  /** How much of it has been heard, as far as anybody knows. @type {number | undefined} */ playedMs;
  /** Some of it was given to the connection. @internal */ isSent = false;
  /** Nobody wants to hear more of it. @internal */ isSilenced = false;
  /** It has ended, well or badly. */ isOver = false;
  /**
   * Resolves when it has been heard to its end; without playing, when its audio has arrived. Rejects with a
   * SpeechError, a SpeechCancelled, or with what the iterable that wrote its text has thrown.
   * @type {Promise<Complete>}
   */
  done;
  /** @type {(complete: Complete) => void} */ #resolve = () => {};
  /** @type {(failure: unknown) => void} */ #reject = () => {};
  /** @type {(id: string) => void} */ #flush;
  /** @type {ArrayBuffer[]} */ #audio = [];
  /** Wakes who waits for more audio. */ #wake = () => {};
  /** @type {unknown} */ #failure = null;

  /**
   * By the client alone, as is all that follows its audio.
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
    // Who follows the events need not ask for the promise, and is no reason for "unhandled rejection".
    this.done.catch(() => {});
  }

  /** Live text: has spoken what is written so far, though its sentence may not be over. */
  flush() {
    if (this.isSent && !this.isOver) this.#flush(this.id);
  }

  /** Its audio, once, as it arrives; only of a client that does not play it. Throws as `done` does. */
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

  /** Its text ends here, against its writer's will. @internal @param {unknown} failure */
  writerFailed(failure) {
    this.#failure = failure;
  }

  /** There is no more of it. @internal @param {Complete} complete */
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
    this.#reject(this.#failure); // without effect when it has resolved
    this.#wake();
  }

  /** The service's account comes before ours, where it gives one. @param {ErrorMessage} error */
  #cancelled(error) {
    const { playedMs } = this;
    return new SpeechCancelled({
      playedMs,
      ...splitAtHeard(this.text, this.sentences, playedMs ?? Infinity),
      ...error,
    });
  }
}

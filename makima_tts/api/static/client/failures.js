// @ts-check
/**
 * How speaking can fail, as errors to catch.
 *
 * In: the service's `error` messages, and those that this side makes in its place. Out: errors with the
 * fields of the message. Does not know: sockets, sound.
 *
 * @import {ErrorMessage} from "./protocol.js"
 */

/** An utterance ended without being spoken to its end. */
export class SpeechError extends Error {
  name = "SpeechError";

  /** @param {ErrorMessage} error */
  constructor(error) {
    super(error.message);
    /** One of those in docs/protocol.md, or CONNECTION_LOST, or NO_SOUND. */
    this.code = error.code;
    /** Whether the same again may succeed. */
    this.recoverable = error.recoverable;
    this.utteranceId = error.utteranceId;
    this.retryAfterMs = error.retryAfterMs;
  }
}

/** It was silenced: by `cancel` or `close` on this side, or by an interrupt at the service. */
export class SpeechCancelled extends SpeechError {
  name = "SpeechCancelled";

  /** @param {ErrorMessage & {textSpoken: string, textRemaining: string}} error */
  constructor(error) {
    super(error);
    /** How much of it was heard; undefined when it is not played here, and nobody said. */
    this.playedMs = error.playedMs;
    /** The part of its text that was heard. */
    this.textSpoken = error.textSpoken;
    /** The part that was not, as far as it had been written. */
    this.textRemaining = error.textRemaining;
  }
}

/** There is no connection to the service. */
export class NotConnected extends Error {
  name = "NotConnected";

  /**
   * @param {string} reason
   * @param {number} [retryInMs]
   */
  constructor(reason, retryInMs) {
    super(reason);
    /** When the client tries again by itself; undefined when it does not. */
    this.retryInMs = retryInMs;
  }
}

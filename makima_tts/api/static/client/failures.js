// @ts-check
/**
 *  The errors of the client.
 *
 * In: the service's `error` messages, and those that the client creates in its place. Out: errors with the
 * fields of the message. Does not know: sockets, sound.
 *
 * @import {ErrorMessage} from "./protocol.js"
 */

/** An utterance failed. */
export class SpeechError extends Error {
  name = "SpeechError";

  /** @param {ErrorMessage} error */
  constructor(error) {
    super(error.message);
    /** One of docs/protocol.md, or CONNECTION_LOST, or NO_SOUND. */
    this.code = error.code;
    /** Whether a retry may succeed. */
    this.recoverable = error.recoverable;
    /** `nothing_to_say` for a text without words. */
    this.reason = error.reason;
    this.utteranceId = error.utteranceId;
    this.retryAfterMs = error.retryAfterMs;
  }
}

/** It was cancelled: by `cancel` or `close` of this client, or by an interrupt at the service. */
export class SpeechCancelled extends SpeechError {
  name = "SpeechCancelled";

  /** @param {ErrorMessage & {textSpoken: string, textRemaining: string}} error */
  constructor(error) {
    super(error);
    /** How much of it was played; undefined when it is not played here and was not reported. */
    this.playedMs = error.playedMs;
    /** The part of its text that was heard. */
    this.textSpoken = error.textSpoken;
    /** The rest of the text written so far. */
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
    /** Until the automatic reconnect; undefined without one. */
    this.retryInMs = retryInMs;
  }
}

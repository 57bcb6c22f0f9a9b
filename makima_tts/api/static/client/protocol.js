// @ts-check
/**
 *  The protocol, from the client's side.
 *
 * In: nothing. Out: the types of the messages in both directions, and shared names. Does not know: sockets,
 * sound. `docs/protocol.md` is the specification.
 *
 * @typedef {"pcm16" | "pcm32f" | "mulaw" | "alaw"} Encoding
 *
 * @typedef {object} StartOptions Options of a session; all have defaults at the server.
 * @property {number} [sampleRate]
 * @property {Encoding} [encoding]
 * @property {number} [speed] 0.5 to 2, at the same pitch.
 * @property {string} [voice]
 * @property {string} [language]
 * @property {boolean} [events]
 * @property {"markdown" | "plain"} [textCleaning] Whether markdown is removed.
 * @property {"none" | "word"} [timings] Whether `words` messages are sent.
 * @property {string} [contractId] Sessions with the same one can be interrupted together.
 * @property {string} [authToken]
 *
 * @typedef {object} SpeakOptions Options of one utterance.
 * @property {"low" | "normal" | "high"} [priority]
 * @property {string} [voice]
 * @property {string} [language]
 * @property {number} [seed]
 * @property {"none" | "word"} [timings] Those of the session by default.
 *
 * @typedef {SpeakOptions & {type: "speak", utteranceId: string, text: string, final?: boolean}} SpeakMessage
 *
 * @typedef {object} Capabilities
 * @property {boolean} streaming
 * @property {string[]} languages English names.
 * @property {Encoding[]} encodings
 * @property {number[]} sampleRates
 * @property {boolean} cloning
 * @property {boolean} textStreaming
 *
 * @typedef {object} SessionLimits
 * @property {number} maxTextChars
 * @property {number} maxQueuedUtterances
 * @property {number} idleTimeoutMs
 * @property {number} maxSessionMs
 * @property {number} maxTextStallMs
 *
 * @typedef {object} Ready
 * @property {"ready"} type
 * @property {string} sessionId
 * @property {boolean} voiceLoaded
 * @property {Capabilities} capabilities
 * @property {string} engine
 * @property {string} model
 * @property {number} protocolVersion
 * @property {SessionLimits} limits
 * @property {number} sampleRate
 * @property {Encoding} encoding
 * @property {string} voice
 *
 * @typedef {{type: "started", sampleRate: number, encoding: Encoding, voice: string, language: string,
 *   warning?: string}} Started
 * @typedef {{type: "loading", stage: string, progress: number}} Loading
 * @typedef {{type: "speaking", utteranceId: string, sampleRate: number, encoding: Encoding, channels: 1,
 *   queueMs: number}} Speaking
 * @typedef {{type: "sentence", utteranceId: string, index: number, text: string, startMs: number,
 *   endMs: number}} Sentence
 *
 * @typedef {object} TimedWord `text[offset]` to `text[offset + length]`, in code points, and its position in the audio.
 * @property {string} word
 * @property {number} offset
 * @property {number} length
 * @property {number} startMs
 * @property {number} endMs
 * @property {true} [estimated] The times are not measured.
 *
 * @typedef {{type: "words", utteranceId: string, words: TimedWord[]}} Words
 *
 * @typedef {object} Complete
 * @property {"complete"} type
 * @property {string} utteranceId
 * @property {number} durationMs
 * @property {number} audioLengthMs
 * @property {number} charactersProcessed
 * @property {number} textLength
 * @property {number} totalChunks
 * @property {number} ttfaMs
 * @property {number} queueMs
 * @property {number} rtf
 * @property {"stop" | "length"} finishReason
 * @property {string} [warning] what the engine left out of the text, for people
 *
 * @typedef {object} ErrorMessage With `utteranceId`: that utterance's terminal message.
 * @property {"error"} type
 * @property {string} code
 * @property {string} message
 * @property {boolean} recoverable
 * @property {string} [reason] `nothing_to_say`: the text has no words.
 * @property {string} [utteranceId]
 * @property {number} [retryAfterMs]
 * @property {number} [audioMs]
 * @property {number} [playedMs]
 * @property {string} [textSpoken] With `CANCELLED`: the text up to `playedMs`.
 * @property {string} [textRemaining]
 *
 * @typedef {{type: "interrupted"}} Interrupted Another session silenced the contract.
 * @typedef {{type: "stopped", reason?: string}} Stopped
 * @typedef {{type: "pong", id?: string | number}} Pong
 *
 * @typedef {Ready | Started | Loading | Speaking | Sentence | Words | Interrupted | Complete
 *   | ErrorMessage | Stopped | Pong} ServerMessage
 */

/** Offered when connecting: the server then sends `loading`, `speaking`, `sentence` and `interrupted` too. */
export const SUBPROTOCOL = "makima.tts.v1";

/** The code of the error that the client reports for utterances of a lost connection. */
export const CONNECTION_LOST = "CONNECTION_LOST";

/**
 * A terminal message that the server could not send.
 * @param {string} code
 * @param {string} utteranceId
 * @param {string} message
 * @returns {ErrorMessage}
 */
export const ended = (code, utteranceId, message) => ({
  type: "error",
  code,
  message,
  recoverable: true,
  utteranceId,
});

/** Milliseconds → whole samples and back, at one rate. */
export const samplesToMs = (/** @type {number} */ samples, /** @type {number} */ rateHz) =>
  Math.round((samples * 1000) / rateHz);

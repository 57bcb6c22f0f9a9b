// @ts-check
/**
 *  The public names of the package.
 *
 * In: the modules beside this one. Out: the public API. Does not know: the rest.
 */

export { SpeechConnection } from "./connection.js";
export { NotConnected, SpeechCancelled, SpeechError } from "./failures.js";
export { toFloats, toPcm16, wavFile } from "./pcm.js";
export { SpeechClient } from "./speech-client.js";

/**
 * @typedef {import("./connection.js").AudioEvent} AudioEvent
 * @typedef {import("./connection.js").ConnectionState} ConnectionState
 * @typedef {import("./connection.js").StateEvent} StateEvent
 * @typedef {import("./player.js").Player} Player
 * @typedef {import("./player.js").PlayerReport} PlayerReport
 * @typedef {import("./protocol.js").Complete} Complete
 * @typedef {import("./protocol.js").ErrorMessage} ErrorMessage
 * @typedef {import("./protocol.js").Ready} Ready
 * @typedef {import("./protocol.js").Sentence} Sentence
 * @typedef {import("./protocol.js").SpeakOptions} SpeakOptions
 * @typedef {import("./protocol.js").TimedWord} TimedWord
 * @typedef {import("./protocol.js").Words} Words
 * @typedef {import("./speech.js").Speech} Speech
 * @typedef {import("./speech-client.js").ClientOptions} ClientOptions
 * @typedef {import("./speech-client.js").SpeechEvent} SpeechEvent
 * @typedef {import("./text-parts.js").Text} Text
 */

// @ts-check
/**
 *  A connection to the service, with automatic reconnects.
 *
 * In: texts to speak, cancels. Out: one stream of events: every server message, the audio with its
 * utterance, and the state of the connection. Does not know: sound, its users.
 *
 * Promises: every utterance given to `speak` ends with exactly one `complete` or `error` event, whatever
 * happens to the socket; after `cancel` no more audio of the cancelled utterance is reported; texts
 * given without a connection are sent once there is one.
 *
 * @import {ErrorMessage, ServerMessage, SpeakMessage, StartOptions} from "./protocol.js"
 *
 * @typedef {object} AudioEvent
 * @property {"audio"} type
 * @property {string} utteranceId
 * @property {ArrayBuffer} pcm Whole samples, little endian, in the encoding that `start` requested.
 * @property {number} atMs When its first byte was received, on the clock of `performance.now()`.
 *
 * @typedef {object} StateEvent
 * @property {"state"} type
 * @property {ConnectionState} state
 * @property {string} reason For people; empty without a special reason.
 * @property {number} [retryInMs] With `lost`: when the next attempt is made.
 *
 * @typedef {"resting" | "connecting" | "ready" | "lost" | "refused"} ConnectionState
 *   resting: closed regularly, `speak` or `connect` reopens it; connecting: until `ready`;
 *   lost: it reconnects by itself; refused: it does not, because that would not help.
 *
 * @typedef {{type: "opened"}} OpenedEvent The WebSocket is open; `ready` comes once the model is loaded.
 *
 * @typedef {ServerMessage | AudioEvent | StateEvent | OpenedEvent} ConnectionEvent
 *
 * @typedef {object} Socket The common interface of browsers' WebSockets and those of Node's packages.
 * @property {string} binaryType
 * @property {number} readyState
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 * @property {(data: string) => void} send
 * @property {(code: number) => void} close
 *
 * @typedef {{new (url: string, protocols: string[]): Socket, readonly OPEN: number}} WebSocketClass
 *
 * @typedef {object} ConnectionOptions
 * @property {string | URL} url Of the service's `/api/v1/speak`; `http` means `ws`.
 * @property {StartOptions} start
 * @property {(event: ConnectionEvent) => void} onEvent
 * @property {WebSocketClass} [WebSocket] For a runtime without one, such as Node before 22.
 */

import { CONNECTION_LOST, SUBPROTOCOL, ended } from "./protocol.js";

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
/** Jitter of ±20 %, so that the clients of a restarted server do not reconnect at one moment. */
const JITTER = 0.2;

/** @type {Record<number, {state: "resting" | "lost" | "refused", reason: string}>} */
const AFTER_CLOSE = {
  1000: { state: "resting", reason: "" },
  4408: { state: "resting", reason: "" },
  1001: { state: "lost", reason: "The service is restarting." },
  1013: { state: "lost", reason: "The service has no room for another listener." },
  4429: { state: "lost", reason: "This address connects too often." },
  1008: { state: "refused", reason: "The service closed the connection: it did not understand this client." },
  4401: { state: "refused", reason: "The service asks for a token that this client does not have." },
};
const LOST = /** @type {const} */ ({ state: "lost", reason: "The connection to the service was lost." });

/**
 * @param {number} attempt From 0.
 * @param {number} atLeastMs The wait that the server requested.
 * @param {number} chance In 0…1.
 */
export function retryDelayMs(attempt, atLeastMs, chance) {
  const delayMs = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
  return Math.max(atLeastMs, Math.round(delayMs * (1 + JITTER * (2 * chance - 1))));
}

export class SpeechConnection {
  /** @type {string} */ #url;
  /** @type {StartOptions} */ #start;
  /** @type {(event: ConnectionEvent) => void} */ #onEvent;
  /** @type {WebSocketClass} */ #WebSocket;
  /** @type {ConnectionState} */ #state = "resting";
  /** @type {Socket | null} */ #socket = null;
  /** Not sent yet. @type {(SpeakMessage | {type: "flush", utteranceId: string})[]} */ #outbox = [];
  /** Sent, and without a terminal message so far. @type {Set<string>} */ #pending = new Set();
  /** Cancelled, and without a terminal message so far. @type {Set<string>} */ #cancelled = new Set();
  /** The utterance whose audio is sent now. @type {string | null} */ #speaking = null;
  #attempts = 0;
  #retryAfterMs = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #retry = undefined;

  /** @param {ConnectionOptions} options */
  constructor({ url, start, onEvent, WebSocket = globalThis.WebSocket }) {
    this.#url = new URL(url).href.replace(/^http/, "ws");
    this.#start = start;
    this.#onEvent = onEvent;
    this.#WebSocket = WebSocket;
  }

  get state() {
    return this.#state;
  }

  /** The utterance whose audio is being sent now, or null. */
  get speaking() {
    return this.#speaking;
  }

  /** Connects now, also while a later attempt is planned. Does nothing when connected or connecting. */
  connect() {
    if (this.#socket !== null) return;
    clearTimeout(this.#retry);
    this.#enter("connecting", "");
    const socket = new this.#WebSocket(this.#url, [SUBPROTOCOL]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code }) => this.#closed(code);
    // It has no more details than the close; but Node's sockets throw errors without a listener.
    socket.onerror = () => {};
    this.#socket = socket;
  }

  /** Closes it regularly, which cancels everything. `speak` or `connect` reopens it. */
  close() {
    clearTimeout(this.#retry);
    if (this.#socket !== null) leave(this.#socket);
    this.#socket = null;
    for (const { utteranceId } of this.#outbox.splice(0)) this.#pending.add(utteranceId);
    this.#endPending("CANCELLED", "The connection was closed by this side.");
    this.#attempts = 0;
    this.#enter("resting", "");
  }

  /**
   * Queues a text, or the next part of one whose last part was not `final`; connects if needed.
   * @param {Omit<SpeakMessage, "type">} text
   */
  speak(text) {
    this.#outbox.push({ type: "speak", ...text });
    this.#sendSoon();
  }

  /**
   * Has the text sent so far spoken now, even within a sentence.
   * @param {string} utteranceId Of an utterance without a terminal event.
   */
  flush(utteranceId) {
    this.#outbox.push({ type: "flush", utteranceId });
    this.#sendSoon();
  }

  /**
   * Silences everything, queued texts too.
   * @param {{playedMs?: number}} [heard] How much of the current utterance was played.
   */
  cancel({ playedMs } = {}) {
    const unsent = new Set(this.#outbox.splice(0).map(({ utteranceId }) => utteranceId));
    for (const id of this.#pending) this.#cancelled.add(id);
    const wholeMs = playedMs === undefined ? undefined : Math.round(playedMs);
    if (this.#pending.size > 0) this.#send({ type: "cancel", playedMs: wholeMs });
    for (const id of unsent) {
      if (!this.#pending.has(id)) this.#onEvent(ended("CANCELLED", id, "Cancelled, unsent."));
    }
  }

  #opened() {
    this.#send({ type: "start", ...this.#start });
    this.#sendOutbox();
    this.#onEvent({ type: "opened" });
  }

  #sendSoon() {
    if (this.#socket?.readyState === this.#WebSocket.OPEN) this.#sendOutbox();
    else this.connect();
  }

  #sendOutbox() {
    for (const message of this.#outbox.splice(0)) {
      if (message.type === "speak") this.#pending.add(message.utteranceId);
      this.#send(message);
    }
  }

  /** @param {object} message */
  #send(message) {
    this.#socket?.send(JSON.stringify(message));
  }

  /** @param {string | ArrayBuffer} data */
  #received(data) {
    if (typeof data === "string") this.#heard(JSON.parse(data));
    else this.#sounded(data);
  }

  /** @param {ArrayBuffer} pcm */
  #sounded(pcm) {
    const utteranceId = this.#speaking;
    if (utteranceId === null || this.#cancelled.has(utteranceId)) return;
    this.#onEvent({ type: "audio", utteranceId, pcm, atMs: performance.now() });
  }

  /** @param {ServerMessage} message */
  #heard(message) {
    if (message.type === "speaking") this.#speaking = message.utteranceId;
    if (message.type === "complete") this.#ended(message.utteranceId);
    if (message.type === "error") this.#failed(message);
    this.#onEvent(message);
    if (message.type === "ready") this.#ready();
  }

  #ready() {
    this.#attempts = 0;
    this.#enter("ready", "");
  }

  /** @param {ErrorMessage} error */
  #failed(error) {
    if (error.utteranceId !== undefined) this.#ended(error.utteranceId);
    else this.#retryAfterMs = error.retryAfterMs ?? 0;
  }

  /** @param {string} utteranceId */
  #ended(utteranceId) {
    this.#pending.delete(utteranceId);
    this.#cancelled.delete(utteranceId);
    if (this.#speaking === utteranceId) this.#speaking = null;
  }

  /** @param {number} code */
  #closed(code) {
    this.#socket = null;
    // A text whose beginning is lost is not continued over the next connection.
    this.#outbox = this.#outbox.filter(({ utteranceId }) => !this.#pending.has(utteranceId));
    this.#endPending(CONNECTION_LOST, "The connection was lost before this was spoken to its end.");
    const { state, reason } = AFTER_CLOSE[code] ?? LOST;
    if (state === "lost") this.#retryLater(reason);
    // Queued after the service closed and before the browser reported it: send them over the next connection.
    else if (state === "resting" && this.#outbox.length > 0) this.connect();
    else this.#enter(state, reason);
  }

  /**
   * @param {string} code
   * @param {string} message
   */
  #endPending(code, message) {
    for (const id of [...this.#pending]) {
      this.#ended(id);
      this.#onEvent(ended(code, id, message));
    }
  }

  /** @param {string} reason */
  #retryLater(reason) {
    const retryInMs = retryDelayMs(this.#attempts++, this.#retryAfterMs, Math.random());
    this.#retryAfterMs = 0;
    this.#retry = setTimeout(() => this.connect(), retryInMs);
    this.#enter("lost", reason, retryInMs);
  }

  /**
   * @param {ConnectionState} state
   * @param {string} reason
   * @param {number} [retryInMs]
   */
  #enter(state, reason, retryInMs) {
    this.#state = state;
    this.#onEvent({ type: "state", state, reason, retryInMs });
  }
}

/**
 * Closes it and ignores its further events.
 * @param {Socket} socket
 */
function leave(socket) {
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close(1000);
}

// @ts-check
/**
 *  A client of the service: sends texts, plays their speech.
 *
 * In: texts, whole or still being written; cancels. Out: sound, a `Speech` for each text, and one stream of
 * events: those of the connection and those of playback. Does not know: the page.
 *
 * @import {AudioEvent, ConnectionEvent, WebSocketClass} from "./connection.js"
 * @import {Player, PlayerReport} from "./player.js"
 * @import {Complete, ErrorMessage, Ready, SpeakOptions, StartOptions} from "./protocol.js"
 * @import {Heard} from "./sample-queue.js"
 * @import {Text} from "./text-parts.js"
 *
 * @typedef {{type: "silenced"}} SilencedEvent All audio, playing or queued, was dropped.
 *
 * @typedef {ConnectionEvent | PlayerReport | SilencedEvent} SpeechEvent
 *
 * @typedef {object} OwnOptions
 * @property {string | URL} url Of the service's `/api/v1/speak`.
 * @property {boolean} [play] Whether it plays the audio; else take it from each `Speech`.
 * @property {boolean} [capture] For tests: report every sample that leaves the worklet, silence too.
 * @property {WebSocketClass} [WebSocket] For a runtime without one, such as Node before 22.
 *
 * @typedef {OwnOptions & Omit<StartOptions, "encoding" | "events">} ClientOptions With the options of its
 *   sessions.
 */

import { SpeechConnection } from "./connection.js";
import { NotConnected } from "./failures.js";
import { toFloats } from "./pcm.js";
import { openPlayer } from "./player.js";
import { ended, samplesToMs } from "./protocol.js";
import { Speech } from "./speech.js";
import { partsOf } from "./text-parts.js";

/** The rate of the service's engines; requesting it avoids resampling before the sound card. */
const SAMPLE_RATE_HZ = 24_000;
/** Of one message, until `ready` brings the service's limit. */
const MAX_TEXT_CHARS = 1000;

export class SpeechClient {
  /** @type {SpeechConnection} */ #connection;
  /** @type {boolean} */ #play;
  /** @type {boolean} */ #capture;
  /** @type {Set<(event: SpeechEvent) => void>} */ #listeners = new Set();
  /** Unfinished speeches by id. @type {Map<string, Speech>} */ #speeches = new Map();
  #speechesMade = 0;
  /** The latest `ready`. @type {Ready | null} */ #ready = null;
  /** @type {Promise<Player> | null} */ #opening = null;
  /** @type {Player | null} */ #player = null;

  /** @param {ClientOptions} options */
  constructor({ url, play = true, capture = false, WebSocket, sampleRate = SAMPLE_RATE_HZ, ...start }) {
    /** The sample rate of all its audio. */
    this.sampleRateHz = sampleRate;
    this.#play = play;
    this.#capture = capture;
    this.#connection = new SpeechConnection({
      url,
      start: { ...start, sampleRate, encoding: "pcm16", events: true },
      onEvent: (event) => this.#heard(event),
      WebSocket,
    });
  }

  /** The state of the connection. */
  get state() {
    return this.#connection.state;
  }

  /** Whether audio is playing or queued. */
  get isSpeaking() {
    return [...this.#speeches.values()].some(({ isSilenced }) => !isSilenced);
  }

  /**
   * @param {(event: SpeechEvent) => void} listener
   * @returns {() => void} Ends it.
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Connects now, also while a later attempt is planned. `speak` does so by itself.
   * @returns {Promise<Ready>} Rejects with NotConnected when this attempt fails; it may be ignored.
   */
  connect() {
    const ready = this.#untilReady();
    ready.catch(() => {});
    this.#connection.connect();
    return ready;
  }

  /**
   * Opens the sound; `speak` does so by itself. Browsers start sound only in a key or click handler: call it
   * there if the first text comes later. Rejects when there is no sound.
   * @returns {Promise<Player>}
   */
  async openSound() {
    const options = {
      onReport: (/** @type {PlayerReport} */ report) => this.#played(report),
      capture: this.#capture,
    };
    const opening = (this.#opening ??= openPlayer(this.sampleRateHz, options));
    try {
      const player = await opening;
      if (opening === this.#opening) this.#player = player; // else it was closed in the meantime
      return player;
    } catch (failure) {
      if (opening === this.#opening) this.#opening = null;
      throw failure;
    }
  }

  /**
   * Queues a text. The text of an iterable, such as a language model's tokens, is spoken while it is written.
   * @param {Text} text
   * @param {SpeakOptions} [options]
   */
  speak(text, options = {}) {
    const speech = new Speech(`speech-${++this.#speechesMade}`, (id) => this.#connection.flush(id));
    if (this.#play) speech.playedMs = 0;
    this.#speeches.set(speech.id, speech);
    void this.#write(speech, text, options);
    return speech;
  }

  /**
   * Silences everything at once, queued texts too.
   * @param {{playedMs?: number}} [heard] If the caller plays the audio: its position.
   */
  cancel(heard = {}) {
    const speaking = this.#speeches.get(this.#connection.speaking ?? "");
    if (speaking !== undefined) speaking.playedMs = heard.playedMs ?? speaking.playedMs;
    this.#fallSilent();
    this.#connection.cancel({ playedMs: speaking?.playedMs });
    this.#cancelUnsent();
  }

  /** Silences everything, closes the connection and the sound; `speak` or `connect` reopens them. */
  close() {
    this.#fallSilent();
    this.#connection.close();
    this.#cancelUnsent();
    this.#opening?.then((player) => player.close()).catch(() => {}); // the caller gets the reason
    this.#player = this.#opening = null;
  }

  /** @returns {Promise<Ready>} */
  #untilReady() {
    const { state } = this.#connection;
    if (state === "ready") return Promise.resolve(/** @type {Ready} */ (this.#ready));
    return new Promise((resolve, reject) => {
      const leave = this.subscribe((event) => {
        if (event.type === "ready") resolve(event);
        else if (event.type !== "state" || event.state === "connecting") return;
        else reject(new NotConnected(event.reason || "The connection was closed.", event.retryInMs));
        leave();
      });
    });
  }

  /**
   * @param {Speech} speech
   * @param {Text} text
   * @param {SpeakOptions} options
   */
  async #write(speech, text, options) {
    if (this.#play && !(await this.#sounds(speech))) return;
    const maxChars = this.#ready?.limits.maxTextChars ?? MAX_TEXT_CHARS;
    try {
      for await (const part of partsOf(text, maxChars)) {
        if (speech.isOver || speech.isSilenced) return;
        this.#say(speech, part, options);
      }
    } catch (failure) {
      speech.writerFailed(failure);
      if (!speech.isOver && !speech.isSilenced) this.#say(speech, { text: "", final: true }, options);
    }
  }

  /** Whether there is sound for it; if not, it fails. @param {Speech} speech */
  async #sounds(speech) {
    try {
      const player = await this.openSound();
      if (!speech.isOver) void player.context.resume();
      return !speech.isOver;
    } catch {
      this.#heard(ended("NO_SOUND", speech.id, "The browser gave this page no audio output."));
      return false;
    }
  }

  /**
   * @param {Speech} speech
   * @param {{text: string, final: boolean}} part
   * @param {SpeakOptions} options
   */
  #say(speech, part, options) {
    speech.text += part.text;
    speech.isSent = true;
    this.#connection.speak({ ...options, utteranceId: speech.id, ...part });
  }

  /** @param {ConnectionEvent} event */
  #heard(event) {
    if (event.type === "ready") this.#ready = event;
    else if (event.type === "audio") this.#arrived(event);
    else if (event.type === "sentence") this.#speeches.get(event.utteranceId)?.sentences.push(event);
    else if (event.type === "words") this.#speeches.get(event.utteranceId)?.words.push(...event.words);
    else if (event.type === "complete") this.#completed(event);
    else if (event.type === "error") this.#failed(event);
    else if (event.type === "interrupted") this.#interrupted();
    this.#tell(event);
  }

  /** @param {AudioEvent} event */
  #arrived({ utteranceId, pcm }) {
    if (this.#play) this.#player?.push(utteranceId, toFloats(new Int16Array(pcm)));
    else this.#speeches.get(utteranceId)?.received(pcm);
  }

  /** @param {Complete} complete */
  #completed(complete) {
    const speech = this.#speeches.get(complete.utteranceId);
    if (speech === undefined) return;
    speech.complete = complete;
    if (speech.isSilenced) this.#cutOff(speech);
    else if (this.#play) this.#player?.end(speech.id);
    else this.#over(speech).finish(complete);
  }

  /** @param {ErrorMessage} error */
  #failed(error) {
    const speech = this.#speeches.get(error.utteranceId ?? "");
    if (speech === undefined) return;
    if (error.code !== "CANCELLED") this.#player?.end(speech.id); // audio that has arrived is played
    else if (!speech.isSilenced) this.#dropSound(); // another session interrupted this one
    this.#over(speech).fail(error);
  }

  /** Pending utterances have got errors of their own; texts queued since are still spoken. */
  #interrupted() {
    if ([...this.#speeches.values()].some(({ complete }) => complete !== null)) this.#dropSound();
  }

  #fallSilent() {
    for (const speech of this.#speeches.values()) speech.isSilenced = speech.isSent;
    this.#dropSound();
  }

  /** Pending utterances get their end from the service; those that are only played here end here. */
  #dropSound() {
    this.#player?.flush();
    for (const speech of [...this.#speeches.values()]) {
      if (speech.complete !== null) this.#cutOff(speech);
    }
    this.#tell({ type: "silenced" });
  }

  /** @param {Speech} speech Complete at the service. */
  #cutOff(speech) {
    this.#over(speech).fail(ended("CANCELLED", speech.id, "It was cut off before it was heard to its end."));
  }

  #cancelUnsent() {
    for (const { id, isSent } of this.#speeches.values()) {
      if (!isSent) this.#heard(ended("CANCELLED", id, "Cancelled, unsent."));
    }
  }

  /** @param {PlayerReport} report */
  #played(report) {
    if (report.type === "progress" || report.type === "finished") {
      const speech = this.#speeches.get(report.heard.utterance);
      if (speech !== undefined) this.#progressed(speech, report);
    }
    this.#tell(report);
  }

  /**
   * @param {Speech} speech
   * @param {Extract<PlayerReport, {heard: Heard}>} report
   */
  #progressed(speech, { type, heard }) {
    speech.playedMs = samplesToMs(heard.playedSamples, this.sampleRateHz);
    if (type === "finished" && speech.complete !== null) this.#over(speech).finish(speech.complete);
  }

  /** @param {Speech} speech */
  #over(speech) {
    this.#speeches.delete(speech.id);
    return speech;
  }

  /** @param {SpeechEvent} event */
  #tell(event) {
    for (const listener of this.#listeners) listener(event);
  }
}

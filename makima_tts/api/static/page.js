// @ts-check
/**
 * The speak page: joins the connection, the player and the displays.
 *
 * In: what the user does, what the connection and the player report. Out: texts to the connection, samples
 * to the player, what changed to the displays. Does not know: the wire, Web Audio, how anything is drawn.
 *
 * @import {AudioEvent, SpeechEvent, StateEvent} from "./connection.js"
 * @import {Complete, ErrorMessage, Loading, Ready} from "./protocol.js"
 * @import {Player, PlayerReport} from "./player.js"
 * @import {ServiceError} from "./voices.js"
 */

import { Composer } from "./composer.js";
import { SpeechConnection } from "./connection.js";
import { byId } from "./elements.js";
import { ConnectionNotice, ErrorNotice } from "./notices.js";
import { toFloats } from "./pcm.js";
import { openPlayer } from "./player.js";
import { Stage } from "./stage.js";
import { Utterance } from "./utterance.js";
import { VoiceDialog } from "./voice-dialog.js";
import { VoicePicker } from "./voice-picker.js";
import { listVoices } from "./voices.js";

/** What the service's engines make; asking for it means that nobody resamples before the sound card. */
const SAMPLE_RATE_HZ = 24_000;

/**
 * `?capture` keeps every sample that is handed to the sound card, for tests and for hunting clicks:
 * `makima.captured` in the console.
 */
const CAPTURE = new URLSearchParams(location.search).has("capture");

class Page {
  /** Quanta as they left the worklet; filled with `?capture` only. @type {Float32Array[]} */ captured = [];
  #connection = new SpeechConnection({
    url: new URL("api/v1/speak", document.baseURI).href.replace(/^http/, "ws"),
    start: { sampleRate: SAMPLE_RATE_HZ, encoding: "pcm16", events: true },
    onEvent: (event) => this.#heard(event),
  });
  #stage = new Stage();
  #error = new ErrorNotice("error");
  #connectionNotice = new ConnectionNotice(() => this.#connection.connect());
  #picker = new VoicePicker();
  #composer = new Composer({ onSpeak: (text) => this.#speak(text), onCancel: () => this.#cancel() });
  #voiceDialog = new VoiceDialog((wanted) => this.#showVoices(wanted));
  /** @type {Promise<Player> | null} */ #opening = null;
  /** @type {Player | null} */ #player = null;
  /** All that is not over, and the one that is shown. @type {Map<string, Utterance>} */ #utterances =
    new Map();

  open() {
    byId("add-voice").addEventListener("click", () => this.#voiceDialog.open());
    for (const gesture of ["pointerdown", "keydown"]) {
      addEventListener(gesture, () => void this.#sound(), { once: true });
    }
    this.#connection.connect();
  }

  /** @param {{text: string, language: string}} request */
  async #speak(request) {
    this.#error.clear();
    const player = await this.#sound();
    if (player === null) return;
    void player.context.resume();
    const utterance = new Utterance(SAMPLE_RATE_HZ);
    const id = this.#connection.speak({ ...request, voice: this.#picker.chosen });
    this.#utterances.set(id, utterance);
    if (this.#stage.shown?.isOver ?? true) this.#show(utterance);
    this.#changed();
  }

  #cancel() {
    const speaking = this.#connection.speaking;
    const playedMs = speaking === null ? undefined : this.#utterances.get(speaking)?.playedMs;
    this.#player?.flush();
    for (const utterance of this.#utterances.values()) utterance.cancelled();
    this.#connection.cancel({ playedMs });
    this.#changed();
  }

  /** The player, opened at the first key or click, before which browsers allow no sound; null without one. */
  async #sound() {
    const options = {
      onReport: (/** @type {PlayerReport} */ report) => this.#played(report),
      capture: CAPTURE,
    };
    this.#opening ??= openPlayer(SAMPLE_RATE_HZ, options);
    try {
      this.#player = await this.#opening;
      byId("coarse-playback").hidden = this.#player.kind === "worklet";
    } catch {
      this.#opening = null;
      this.#error.show({ code: "NO_SOUND", message: "The browser gave this page no audio output." });
    }
    return this.#player;
  }

  /** @param {SpeechEvent} event */
  #heard(event) {
    if (event.type === "state") this.#connectionChanged(event);
    else if (event.type === "loading") this.#stage.loading = event;
    else if (event.type === "ready") this.#ready(event);
    else if (event.type === "audio") this.#arrived(event);
    else if (event.type === "sentence") this.#utterances.get(event.utteranceId)?.sentences.push(event);
    else if (event.type === "complete") this.#completed(event);
    else if (event.type === "error") this.#failed(event);
    this.#changed();
  }

  /** @param {StateEvent} event */
  #connectionChanged({ state, reason, retryInMs }) {
    this.#stage.connection = state;
    if (state === "lost" || state === "refused") this.#connectionNotice.show(reason, retryInMs);
    else if (state !== "connecting") this.#connectionNotice.clear();
  }

  /** @param {Ready} ready */
  #ready(ready) {
    this.#stage.ready(ready);
    this.#composer.ready(ready);
    this.#voiceDialog.ready(ready);
    this.#picker.preferred = ready.voice;
    void this.#showVoices();
  }

  /** @param {string} [wanted] */
  async #showVoices(wanted = this.#picker.chosen) {
    try {
      const voices = await listVoices();
      this.#picker.show(voices, wanted);
      this.#voiceDialog.show(voices);
    } catch (error) {
      this.#error.show(/** @type {ServiceError} */ (error));
    }
  }

  /** @param {AudioEvent} event */
  #arrived({ utteranceId, pcm, atMs }) {
    const samples = new Int16Array(pcm);
    this.#utterances.get(utteranceId)?.received(samples, atMs);
    this.#player?.push(utteranceId, toFloats(samples));
  }

  /** @param {Complete} complete */
  #completed(complete) {
    const utterance = this.#utterances.get(complete.utteranceId);
    if (utterance === undefined || utterance.outcome === "cancelled") return;
    utterance.complete = complete;
    this.#player?.end(complete.utteranceId);
  }

  /** @param {ErrorMessage} error */
  #failed(error) {
    const utterance = error.utteranceId === undefined ? undefined : this.#utterances.get(error.utteranceId);
    if (utterance?.outcome === "cancelled") return;
    this.#error.show(error);
    utterance?.failed();
    if (error.utteranceId !== undefined) this.#player?.end(error.utteranceId);
  }

  /** @param {PlayerReport} report */
  #played(report) {
    if (report.type === "captured") {
      this.captured.push(report.samples);
      return;
    }
    const utterance = this.#utterances.get(
      report.type === "sounded" ? report.utterance : report.heard.utterance,
    );
    if (utterance === undefined || utterance.outcome === "cancelled") return;
    this.#show(utterance);
    if (report.type === "sounded") utterance.sounded(report.atMs);
    else if (report.type === "progress") utterance.progressed(report.heard, report.bufferedSamples);
    else utterance.finished(report.heard);
    this.#changed();
  }

  /** @param {Utterance} utterance */
  #show(utterance) {
    this.#stage.shown = utterance;
    for (const [id, other] of this.#utterances) {
      if (other !== utterance && other.isOver) this.#utterances.delete(id);
    }
  }

  #changed() {
    const unfinished = [...this.#utterances.values()].filter((utterance) => !utterance.isOver).length;
    this.#stage.unfinished = unfinished;
    this.#composer.cancellable = unfinished > 0;
    this.#stage.draw();
  }
}

const page = new Page();
page.open();
if (CAPTURE) Object.assign(window, { makima: page });

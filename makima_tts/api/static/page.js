// @ts-check
/**
 * The speak page: connects the client and the displays.
 *
 * In: user input, client events. Out: texts and cancels for the client, changes for the displays. Does not
 * know: the wire, sound, drawing.
 *
 * @import {AudioEvent, StateEvent} from "./client/connection.js"
 * @import {Complete, ErrorMessage, Ready} from "./client/protocol.js"
 * @import {PlayerReport} from "./client/player.js"
 * @import {Heard} from "./client/sample-queue.js"
 * @import {SpeechEvent} from "./client/speech-client.js"
 * @import {ServiceError} from "./voices.js"
 */

import { Composer } from "./composer.js";
import { SpeechClient } from "./client/speech-client.js";
import { byId } from "./elements.js";
import { ConnectionNotice, ErrorNotice } from "./notices.js";
import { Stage } from "./stage.js";
import { Utterance } from "./utterance.js";
import { VoiceDialog } from "./voice-dialog.js";
import { VoicePicker } from "./voice-picker.js";
import { listVoices } from "./voices.js";

/**
 * `?capture` keeps every sample that is handed to the sound card, for tests and for hunting clicks:
 * `makima.captured` in the console.
 */
const CAPTURE = new URLSearchParams(location.search).has("capture");

class Page {
  /** Quanta that left the worklet; filled with `?capture` only. @type {Float32Array[]} */ captured = [];
  #client = new SpeechClient({ url: new URL("api/v1/speak", document.baseURI), capture: CAPTURE });
  #stage = new Stage();
  #error = new ErrorNotice("error");
  #connectionNotice = new ConnectionNotice(() => void this.#client.connect());
  #picker = new VoicePicker();
  #composer = new Composer({ onSpeak: (text) => this.#speak(text), onCancel: () => this.#client.cancel() });
  #voiceDialog = new VoiceDialog((wanted) => this.#showVoices(wanted));
  /** Unfinished utterances, and the one that is shown. @type {Map<string, Utterance>} */ #utterances =
    new Map();

  open() {
    byId("add-voice").addEventListener("click", () => this.#voiceDialog.open());
    for (const gesture of ["pointerdown", "keydown"]) {
      addEventListener(gesture, () => void this.#sound(), { once: true });
    }
    this.#client.subscribe((event) => this.#heard(event));
    void this.#client.connect();
  }

  /** @param {{text: string, language: string}} request */
  #speak({ text, language }) {
    this.#error.clear();
    void this.#sound();
    const voice = this.#picker.chosen;
    const { id } = this.#client.speak(text, { language, voice, timings: "word" });
    const utterance = new Utterance(text, this.#client.sampleRateHz);
    this.#utterances.set(id, utterance);
    if (this.#stage.shown?.isOver ?? true) this.#show(utterance);
    this.#changed();
  }

  /** Opens the sound at the first key or click, as browsers require. */
  async #sound() {
    try {
      const player = await this.#client.openSound();
      byId("coarse-playback").hidden = player.kind === "worklet";
    } catch {
      this.#error.show({ code: "NO_SOUND", message: "The browser gave this page no audio output." });
    }
  }

  /** @param {SpeechEvent} event */
  #heard(event) {
    if (event.type === "captured") {
      this.captured.push(event.samples);
      return;
    }
    if (event.type === "state") this.#connectionChanged(event);
    else if (event.type === "loading") this.#stage.loading = event;
    else if (event.type === "ready") this.#ready(event);
    else if (event.type === "audio") this.#arrived(event);
    else if (event.type === "sentence") this.#utterances.get(event.utteranceId)?.sentences.push(event);
    else if (event.type === "words") this.#utterances.get(event.utteranceId)?.words.push(...event.words);
    else if (event.type === "sounded") this.#audible(event.utterance)?.sounded(event.atMs);
    else if (event.type === "progress" || event.type === "finished") this.#played(event);
    else if (event.type === "complete") this.#completed(event);
    else if (event.type === "error") this.#failed(event);
    else if (event.type === "silenced") this.#silenced();
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
    this.#utterances.get(utteranceId)?.received(new Int16Array(pcm), atMs);
  }

  /** @param {Complete} complete */
  #completed(complete) {
    const utterance = this.#utterances.get(complete.utteranceId);
    if (utterance !== undefined && utterance.outcome !== "cancelled") utterance.complete = complete;
  }

  /** @param {ErrorMessage} error */
  #failed(error) {
    const utterance = error.utteranceId === undefined ? undefined : this.#utterances.get(error.utteranceId);
    if (utterance?.outcome === "cancelled") return;
    this.#error.show(error);
    utterance?.failed();
  }

  #silenced() {
    for (const utterance of this.#utterances.values()) utterance.cancelled();
  }

  /** @param {Extract<PlayerReport, {heard: Heard}>} report */
  #played(report) {
    const utterance = this.#audible(report.heard.utterance);
    if (report.type === "progress") utterance?.progressed(report.heard, report.bufferedSamples);
    else utterance?.finished(report.heard);
  }

  /** The utterance that is played; it is the one to show. @param {string} id */
  #audible(id) {
    const utterance = this.#utterances.get(id);
    if (utterance === undefined || utterance.outcome === "cancelled") return undefined;
    this.#show(utterance);
    return utterance;
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

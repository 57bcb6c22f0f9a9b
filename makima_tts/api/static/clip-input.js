// @ts-check
/**
 * A clip from the microphone or from a file, to listen to before it is sent.
 *
 * In: the microphone, files. Out: one clip that the service can read. Does not know: its use.
 *
 * @import {Clip} from "./clip.js"
 * @import {ServiceError} from "./voices.js"
 */

import { prepareClip } from "./clip.js";
import { byId } from "./elements.js";
import { canRecord, Recorder } from "./recorder.js";

/** The service's limit; checked here, since the service answers only after the whole upload. */
const SHORTEST_S = 3;
const LONGEST_S = 60;
const NO_MICROPHONE = { code: "NO_MICROPHONE", message: "The browser gave this page no microphone." };

export class ClipInput {
  /** @type {Clip | null} */ clip = null;
  /** @type {Recorder | null} */ #recorder = null;
  /** Whether the permission for the microphone is pending. */
  #asking = false;
  #record = byId("record", HTMLButtonElement);
  #file = byId("clip-file", HTMLInputElement);
  #preview = byId("clip-preview", HTMLAudioElement);
  /** @type {(error: {code: string, message: string}) => void} */ #onError;
  /** @type {() => void} */ #onClip;

  /**
   * @param {(error: {code: string, message: string}) => void} onError
   * @param {() => void} onClip
   */
  constructor(onError, onClip) {
    this.#onError = onError;
    this.#onClip = onClip;
    this.#record.addEventListener("click", () => void this.#toggle());
    this.#file.addEventListener("change", () => this.#chosen());
    this.#record.disabled = !canRecord();
    byId("record-refused").hidden = canRecord();
  }

  /** Reports a missing clip at its input. */
  ask() {
    byId("clip-line").textContent = "Record a clip or choose a file first.";
    (this.#record.disabled ? this.#file : this.#record).focus();
  }

  clear() {
    URL.revokeObjectURL(this.#preview.src);
    this.clip = null;
    this.#preview.hidden = true;
    byId("clip-line").textContent = "";
  }

  /** The dialog was closed: stops recording and playback. */
  letGo() {
    this.#preview.pause();
    if (this.#recorder !== null) void this.#finish(this.#recorder);
  }

  #chosen() {
    const file = this.#file.files?.[0];
    if (file !== undefined) void this.#take(file);
  }

  async #toggle() {
    if (this.#recorder !== null) return this.#finish(this.#recorder);
    // The button is not disabled, since it would lose the focus, and a keyboard user stops with the same key.
    if (this.#asking) return;
    this.clear();
    this.#asking = true;
    await this.#begin().catch(() => this.#onError(NO_MICROPHONE));
    this.#asking = false;
  }

  async #begin() {
    const recorder = await Recorder.begin((durationS, level) => this.#hear(durationS, level));
    // The dialog was closed while the permission was pending: do not record.
    if (this.#record.closest("dialog")?.open === false) return void recorder.stop();
    this.#recorder = recorder;
    this.#showRecording(true);
  }

  /**
   * @param {number} durationS
   * @param {number} level
   */
  #hear(durationS, level) {
    byId("record-level", HTMLMeterElement).value = level;
    byId("record-time").textContent = `${durationS.toFixed(1)} s`;
    if (durationS >= LONGEST_S && this.#recorder !== null) void this.#finish(this.#recorder);
  }

  /** @param {Recorder} recorder */
  async #finish(recorder) {
    this.#recorder = null;
    this.#showRecording(false);
    await this.#take(new File([await recorder.stop()], "recording.wav"));
  }

  /** @param {boolean} recording */
  #showRecording(recording) {
    this.#record.textContent = recording ? "Stop recording" : "Record";
    this.#record.setAttribute("aria-pressed", String(recording));
    byId("recording").hidden = !recording;
  }

  /** @param {File} file */
  async #take(file) {
    this.clear();
    try {
      this.clip = await prepareClip(file);
      this.#show(this.clip);
      this.#onClip();
    } catch (error) {
      this.#onError(/** @type {ServiceError} */ (error));
    }
  }

  /** @param {Clip} clip */
  #show({ file, durationS }) {
    this.#preview.src = URL.createObjectURL(file);
    this.#preview.hidden = false;
    byId("clip-line").textContent = `${file.name}, ${durationS.toFixed(1)} s. ${fitness(durationS)}`;
  }
}

/** @param {number} durationS */
function fitness(durationS) {
  if (durationS < SHORTEST_S) return `Too short: ${SHORTEST_S} s are needed, 5 to 15 are best.`;
  if (durationS > LONGEST_S) return `Too long: ${LONGEST_S} s are the most, 5 to 15 are best.`;
  return "Listen to it, then add it.";
}

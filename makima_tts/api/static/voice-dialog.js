// @ts-check
/**
 * Adding a voice: record or choose a clip, enter its transcript, send it, read the report.
 *
 * In: what the user records and writes. Out: a new voice at the service; a callback when voices change. Does
 * not know: speech synthesis.
 *
 * @import {Clip} from "./clip.js"
 * @import {Ready} from "./client/protocol.js"
 * @import {AddedVoice, ClipReport, Voice} from "./voices.js"
 */

import { ClipInput } from "./clip-input.js";
import { byId, fillLanguages, fillList } from "./elements.js";
import { ErrorNotice } from "./notices.js";
import { OwnVoices } from "./own-voices.js";
import { addVoice } from "./voices.js";

const CONSENT = "Confirmed on the speak page: the speaker's own voice, or with the speaker's agreement.";
const READ_ALOUD = `The morning train was late again, so I walked along the river instead. Nobody was about, \
only a heron on the far bank, quite still, as though it had been painted there. What a strange, \
quiet beginning to the day!`;

export class VoiceDialog {
  #dialog = byId("voice-dialog", HTMLDialogElement);
  #form = byId("voice-form", HTMLFormElement);
  #save = byId("voice-save", HTMLButtonElement);
  #error = new ErrorNotice("voice-error");
  #clipInput = new ClipInput(
    (error) => this.#error.show(error),
    () => this.#error.clear(),
  );
  /** @type {OwnVoices} */ #own;
  /** @type {(wanted?: string) => Promise<void>} */ #onChanged;

  /** @param {(wanted?: string) => Promise<void>} onChanged With the voice that was added, if one was. */
  constructor(onChanged) {
    this.#onChanged = onChanged;
    this.#own = new OwnVoices(onChanged, (error) => this.#error.show(error));
    this.#form.addEventListener("submit", (event) => void this.#submit(event));
    this.#dialog.addEventListener("close", () => this.#clipInput.letGo());
    byId("voice-close").addEventListener("click", () => this.#dialog.close());
    byId("suggest").addEventListener("click", () => this.#suggest());
  }

  open() {
    this.#dialog.showModal();
  }

  /** @param {Ready} ready */
  ready({ capabilities }) {
    byId("voice-stand-in").hidden = capabilities.cloning;
    const select = byId("voice-language", HTMLSelectElement);
    fillLanguages(select, capabilities.languages);
  }

  /** @param {Voice[]} voices */
  show(voices) {
    this.#own.show(voices);
  }

  #suggest() {
    byId("transcript", HTMLTextAreaElement).value = READ_ALOUD;
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    this.#error.clear();
    const { clip } = this.#clipInput;
    if (clip === null) return this.#clipInput.ask();
    this.#save.disabled = true;
    await this.#send(clip).catch((error) => this.#error.show(error));
    this.#save.disabled = false;
  }

  /** @param {Clip} clip */
  async #send(clip) {
    const form = new FormData(this.#form);
    form.set("audio", clip.file);
    form.set("consent", CONSENT);
    const added = await addVoice(form);
    showReport(added);
    this.#form.reset();
    this.#clipInput.clear();
    this.#own.add(added.voice.id);
    await this.#onChanged(added.voice.id);
  }
}

/** @param {AddedVoice} added */
function showReport({ voice, report }) {
  const heading = voice.available ? `${voice.name} can speak now.` : `${voice.name} is kept. ${voice.reason}`;
  byId("report-heading").textContent = heading;
  byId("report-figures").replaceChildren(...Object.entries(figuresOf(report)).flatMap(termAndFigure));
  fillList(byId("report-notes"), [...report.mended.map((what) => `Mended: ${what}.`), ...report.warnings]);
  byId("report").hidden = false;
  byId("report").scrollIntoView({ block: "nearest" });
}

/** @param {number} ms */
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/** @param {ClipReport} report @returns {Record<string, string>} */
const figuresOf = (report) => ({
  Duration: `${seconds(report.durationMs)}, of which ${seconds(report.usedMs)} are used`,
  "Sample rate": `${report.sampleRate.toLocaleString()} Hz`,
  Level: `${report.levelDbfs.toFixed(0)} dBFS, peaks ${report.peakDbfs.toFixed(0)} dBFS`,
  "Noise floor": `${report.noiseFloorDbfs.toFixed(0)} dBFS`,
  Clipping: report.clippedRatio === 0 ? "none" : `${(report.clippedRatio * 100).toPrecision(2)} % of samples`,
  "Trailing silence": seconds(report.trailingSilenceMs),
});

/** @param {[string, string]} entry */
function termAndFigure([term, figure]) {
  return [
    Object.assign(document.createElement("dt"), { textContent: term }),
    Object.assign(document.createElement("dd"), { textContent: figure }),
  ];
}

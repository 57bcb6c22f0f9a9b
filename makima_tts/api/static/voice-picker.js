// @ts-check
/**
 * The choice of the voice: available ones, and unavailable ones with the reason.
 *
 * In: the service's list of voices. Out: the id of the chosen one. Does not know: how voices are added.
 *
 * @import {Voice} from "./voices.js"
 */

import { byId, fillList, fillSelect } from "./elements.js";

export class VoicePicker {
  #select = byId("voice", HTMLSelectElement);
  /** @type {Voice[]} */ #voices = [];
  /** The default voice. */ preferred = "";

  constructor() {
    this.#select.addEventListener("change", () => this.#describe());
  }

  /** An id, or undefined for the service's default. */
  get chosen() {
    return this.#select.value || undefined;
  }

  /**
   * @param {Voice[]} voices
   * @param {string} [wanted] Chosen, if it can be.
   */
  show(voices, wanted) {
    this.#voices = voices;
    fillSelect(this.#select, voices.map(optionFor));
    const usable = voices.filter(({ available }) => available);
    const chosen =
      usable.find(({ id }) => id === wanted) ?? usable.find(({ id }) => id === this.preferred) ?? usable[0];
    this.#select.value = chosen?.id ?? "";
    explain(voices.filter(({ available }) => !available));
    this.#describe();
  }

  #describe() {
    const voice = this.#voices.find(({ id }) => id === this.chosen);
    byId("voice-description").textContent = voice?.description ?? "";
  }
}

/** @param {Voice} voice */
function optionFor({ id, name, available }) {
  return { value: id, label: available ? name : `${name} (not available)`, disabled: !available };
}

/** @param {Voice[]} unavailable */
function explain(unavailable) {
  const [first] = unavailable;
  const many = `Why are ${unavailable.length} voices not available?`;
  byId("unavailable").hidden = first === undefined;
  byId("unavailable-summary").textContent =
    unavailable.length === 1 ? `Why is ${first?.name} not available?` : many;
  fillList(
    byId("voice-reasons"),
    unavailable.map(({ name, reason }) => `${name}: ${reason}`),
  );
}

// @ts-check
/**
 * The text input: length, language, Speak and Cancel, by mouse and by keyboard.
 *
 * In: the service's limits and languages. Out: texts to speak, and cancels. Does not know:
 * voices, the connection.
 *
 * @import {Ready} from "./client/protocol.js"
 */

import { byId, DEFAULT_LANGUAGE, fillLanguages } from "./elements.js";

const AUTO = "Auto";
/** Control and invisible characters that the service removes before it counts. */
const CONTROLS =
  /[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffd]/g;
const IS_MAC = /Mac|iPhone|iPad/.test(navigator.userAgent);

/** Not `trim`, for which a byte order mark is white space and U+0085 is not. */
const WHITE_ENDS = /^(?:[^\S\ufeff]|\x85)+|(?:[^\S\ufeff]|\x85)+$/g;

/** Unicode code points after cleaning, as the service counts them. @param {string} text */
export const countChars = (text) =>
  [...text.normalize("NFC").replace(CONTROLS, "").replace(WHITE_ENDS, "")].length;

export class Composer {
  #text = byId("text", HTMLTextAreaElement);
  #language = byId("language", HTMLSelectElement);
  #speak = byId("speak", HTMLButtonElement);
  #cancel = byId("cancel", HTMLButtonElement);
  #maxChars = Infinity;
  /** @type {(request: {text: string, language: string}) => void} */ #onSpeak;

  /** @param {{onSpeak: (request: {text: string, language: string}) => void, onCancel: () => void}} actions */
  constructor({ onSpeak, onCancel }) {
    this.#onSpeak = onSpeak;
    this.#text.addEventListener("input", () => this.#count());
    this.#cancel.addEventListener("click", onCancel);
    byId("composer").addEventListener("submit", (event) => this.#submit(event));
    addEventListener("keydown", (event) => this.#pressed(event, onCancel));
    byId("speak-keys").textContent = IS_MAC ? "⌘ Enter" : "Ctrl Enter";
    fillLanguages(this.#language, [DEFAULT_LANGUAGE]);
    this.#count();
  }

  /** @param {boolean} possible */
  set cancellable(possible) {
    this.#cancel.disabled = !possible;
  }

  /** @param {Ready} ready */
  ready({ limits, capabilities }) {
    this.#maxChars = limits.maxTextChars;
    fillLanguages(this.#language, [...capabilities.languages, AUTO]);
    this.#count();
  }

  get #sayable() {
    const chars = countChars(this.#text.value);
    return chars > 0 && chars <= this.#maxChars;
  }

  #count() {
    const chars = countChars(this.#text.value);
    const excess = chars - this.#maxChars;
    const limit = Number.isFinite(this.#maxChars) ? ` / ${this.#maxChars.toLocaleString()}` : "";
    byId("count").textContent =
      `${chars.toLocaleString()}${limit}${excess > 0 ? `, ${excess} too many` : ""}`;
    this.#text.setAttribute("aria-invalid", String(excess > 0));
    this.#speak.disabled = !this.#sayable;
  }

  /** @param {Event} event */
  #submit(event) {
    event.preventDefault();
    if (this.#sayable) this.#onSpeak({ text: this.#text.value, language: this.#language.value });
  }

  /**
   * @param {KeyboardEvent} event
   * @param {() => void} onCancel
   */
  #pressed(event, onCancel) {
    if (document.querySelector("dialog[open]") !== null) return;
    if (event.key === "Escape" && !this.#cancel.disabled) onCancel();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) this.#submit(event);
  }
}

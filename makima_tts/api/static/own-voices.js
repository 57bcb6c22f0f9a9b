// @ts-check
/**
 * Removal of the voices that were added from this browser. The service has no user accounts, so the page does
 * not offer to remove other voices.
 *
 * In: ids of added voices; the service's list. Out: a list with a button each; removals. Does not know: how
 * a voice is added.
 *
 * @import {ServiceError, Voice} from "./voices.js"
 */

import { byId } from "./elements.js";
import { removeVoice } from "./voices.js";

const KEY = "makima.ownVoices";

/** @returns {string[]} Empty if the browser has no storage. */
function remembered() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
}

/** @param {string[]} ids */
function remember(ids) {
  try {
    localStorage.setItem(KEY, JSON.stringify(ids));
  } catch {
    // Without storage only the operator can remove the voice.
  }
}

export class OwnVoices {
  /** @type {() => Promise<void>} */ #onRemoved;
  /** @type {(error: ServiceError) => void} */ #onError;

  /**
   * @param {() => Promise<void>} onRemoved
   * @param {(error: ServiceError) => void} onError
   */
  constructor(onRemoved, onError) {
    this.#onRemoved = onRemoved;
    this.#onError = onError;
  }

  /** @param {string} id */
  add(id) {
    remember([...new Set([...remembered(), id])]);
  }

  /** @param {Voice[]} voices */
  show(voices) {
    const own = voices.filter(({ id }) => remembered().includes(id));
    byId("own-voices-list").replaceChildren(...own.map((voice) => this.#line(voice)));
    byId("own-voices").hidden = own.length === 0;
  }

  /** @param {Voice} voice */
  #line(voice) {
    const button = Object.assign(document.createElement("button"), {
      type: "button",
      className: "quiet",
      textContent: "Remove",
      ariaLabel: `Remove ${voice.name}`,
    });
    button.addEventListener("click", () => void this.#remove(voice));
    const line = document.createElement("li");
    line.append(voice.name, button);
    return line;
  }

  /** @param {Voice} voice */
  async #remove({ id, name }) {
    if (!confirm(`Remove the voice “${name}” and its recording from the service?`)) return;
    try {
      await removeVoice(id);
    } catch (error) {
      this.#onError(/** @type {ServiceError} */ (error));
    }
    await this.#onRemoved();
  }
}

// @ts-check
/**
 * The page's notices: an error with what to do, a lost connection, a stand-in engine, coarse playback.
 *
 * In: errors and states. Out: text in the page. Does not know: their causes.
 */

import { wordsFor } from "./advice.js";
import { byId } from "./elements.js";

const SECOND_MS = 1000;

/**
 * Calls `show` with the seconds left, now and every second until none is left.
 * @param {number} durationMs
 * @param {(secondsLeft: number) => void} show
 * @returns {() => void} Stops it.
 */
function countDown(durationMs, show) {
  const endMs = performance.now() + durationMs;
  const tick = () => {
    const leftMs = Math.max(0, endMs - performance.now());
    show(Math.ceil(leftMs / SECOND_MS));
    if (leftMs === 0) clearInterval(timer);
  };
  const timer = setInterval(tick, SECOND_MS / 4);
  tick();
  return () => clearInterval(timer);
}

/** An error box: a heading, the service's message, advice, and a countdown. */
export class ErrorNotice {
  /** @type {HTMLElement} */ #box;
  /** @type {string} */ #id;
  #stopCountdown = () => {};

  /** @param {string} id The box's; the ids of its parts begin with it. */
  constructor(id) {
    this.#id = id;
    this.#box = byId(id);
  }

  /** @param {{code: string, message: string, retryAfterMs?: number}} error */
  show({ code, message, retryAfterMs }) {
    this.#stopCountdown();
    const { heading, advice } = wordsFor(code);
    this.#write("heading", heading);
    this.#write("message", message);
    this.#write("advice", advice);
    this.#write("code", code);
    this.#write("retry", "");
    const showLeft = (/** @type {number} */ seconds) => this.#write("retry", inWords(seconds));
    if (retryAfterMs !== undefined) this.#stopCountdown = countDown(retryAfterMs, showLeft);
    this.#box.hidden = false;
  }

  clear() {
    this.#stopCountdown();
    this.#box.hidden = true;
  }

  /**
   * @param {string} part
   * @param {string} text
   */
  #write(part, text) {
    byId(`${this.#id}-${part}`).textContent = text;
  }
}

/** @param {number} seconds */
const inWords = (seconds) => (seconds > 0 ? `Try again in ${seconds} s.` : "You can try again now.");

/** The notice of a lost connection, with the time of the next attempt. */
export class ConnectionNotice {
  #box = byId("connection-notice");
  #stopCountdown = () => {};

  /** @param {() => void} onTryNow */
  constructor(onTryNow) {
    byId("try-now").addEventListener("click", onTryNow);
  }

  /**
   * @param {string} reason
   * @param {number} [retryInMs] Absent: no automatic attempt.
   */
  show(reason, retryInMs) {
    this.#stopCountdown();
    byId("connection-reason").textContent = reason;
    byId("connection-retry").textContent = "";
    if (retryInMs !== undefined) this.#stopCountdown = countDown(retryInMs, showReconnect);
    this.#box.hidden = false;
  }

  clear() {
    this.#stopCountdown();
    this.#box.hidden = true;
  }
}

/** @param {number} seconds */
function showReconnect(seconds) {
  byId("connection-retry").textContent = seconds > 0 ? `Trying again in ${seconds} s.` : "Trying again …";
}

// @ts-check
/**
 * The displays of an utterance: status, loading, waveform, caption, figures, download.
 *
 * In: the connection's state and the utterance to show. Out: the page. Does not know: their origin.
 *
 * @import {ConnectionState} from "./client/connection.js"
 * @import {Loading, Ready} from "./client/protocol.js"
 * @import {Utterance} from "./utterance.js"
 */

import { byId } from "./elements.js";
import { showFigures } from "./figures.js";
import { Waveform } from "./waveform.js";

const STILL_EVERY_MS = 250;
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

export class Stage {
  /** @type {ConnectionState} */ connection = "connecting";
  /** @type {Loading | null} */ loading = null;
  /** @type {Utterance | null} */ shown = null;
  /** Utterances that are neither played to their end, nor cancelled, nor failed. */ unfinished = 0;
  #waveform = new Waveform(byId("waveform", HTMLCanvasElement));
  #drawingPlanned = false;
  /** The utterance behind the download link. @type {Utterance | null} */ #kept = null;

  constructor() {
    new ResizeObserver(() => this.draw()).observe(byId("waveform"));
  }

  /** @param {Ready} ready */
  ready({ engine, model, capabilities }) {
    this.loading = null;
    byId("service-name").textContent = engine;
    byId("service").title = `Engine ${engine}, model ${model}`;
    byId("stand-in").hidden = capabilities.cloning;
  }

  /** Draws changes with the screen's next frame; less often with prefers-reduced-motion. */
  draw() {
    if (this.#drawingPlanned) return;
    this.#drawingPlanned = true;
    if (stillness.matches) setTimeout(() => this.#drawNow(), STILL_EVERY_MS);
    else requestAnimationFrame(() => this.#drawNow());
  }

  #drawNow() {
    this.#drawingPlanned = false;
    setText("status", statusText(this));
    setText("position", this.shown === null ? "" : positionText(this.shown));
    this.#drawCaption();
    byId("service").dataset.state = this.connection;
    this.#drawLoading();
    this.#waveform.draw(this.shown);
    showFigures(this.shown);
    this.#keep();
  }

  #drawCaption() {
    const caption = this.shown?.outcome === "sounding" ? this.shown.caption : null;
    setText("caption-before", caption?.before ?? "");
    setText("caption-word", caption?.word ?? "");
    setText("caption-after", caption?.after ?? "");
  }

  #drawLoading() {
    const bar = byId("loading", HTMLProgressElement);
    bar.hidden = this.loading === null || this.connection !== "connecting";
    bar.value = this.loading?.progress ?? 0;
  }

  /** Offers the shown utterance as a file once it is complete. */
  #keep() {
    const utterance = this.shown;
    const link = byId("download", HTMLAnchorElement);
    link.hidden = utterance === null || !utterance.isOver || utterance.receivedSamples === 0;
    if (utterance === null || link.hidden || utterance === this.#kept) return;
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(utterance.toWav());
    this.#kept = utterance;
  }
}

/**
 * Screen readers announce the status whenever it is written, so it is written only when it changes.
 * @param {string} id
 * @param {string} text
 */
function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/** @param {Stage} stage */
function statusText({ connection, loading, shown, unfinished }) {
  if (shown === null) return connectionText(connection, loading);
  return shown.isOver ? endText(shown) : speakingText(connection, loading, shown, unfinished);
}

/**
 * @param {ConnectionState} connection
 * @param {Loading | null} loading
 */
function connectionText(connection, loading) {
  if (connection === "connecting")
    return loading === null ? "Connecting …" : `Loading the model: ${loading.stage}`;
  if (connection === "resting") return "Resting. It wakes when you speak.";
  if (connection === "lost") return "The connection was lost.";
  return connection === "ready" ? "Ready." : "Not connected.";
}

/**
 * @param {ConnectionState} connection
 * @param {Loading | null} loading
 * @param {Utterance} shown
 * @param {number} unfinished
 */
function speakingText(connection, loading, shown, unfinished) {
  const others = unfinished - 1;
  const queue = others > 0 ? ` ${others} more waiting.` : "";
  if (shown.outcome === "sounding") return `Speaking.${queue}`;
  if (connection === "ready") return `Waiting for the first sound …${queue}`;
  return `${connectionText(connection, loading)} Your text is kept and spoken then.${queue}`;
}

/** @param {Utterance} utterance */
function endText({ outcome, playedMs, complete }) {
  const seconds = `${(playedMs / 1000).toFixed(1)} s`;
  if (outcome === "failed") return playedMs > 0 ? `Broke off after ${seconds}.` : "Not spoken.";
  if (outcome === "cancelled") return playedMs > 0 ? `Cancelled after ${seconds}.` : "Cancelled.";
  if (complete?.finishReason === "length") return `Spoken, ${seconds}; cut off by the engine's limit.`;
  return [`Spoken, ${seconds}.`, complete?.warning ?? ""].join(" ").trim();
}

/** @param {Utterance} utterance */
function positionText({ playedMs, receivedMs, isOver }) {
  const total = `${(receivedMs / 1000).toFixed(1)} s`;
  return isOver || receivedMs === 0 ? total : `${(playedMs / 1000).toFixed(1)} / ${total}`;
}

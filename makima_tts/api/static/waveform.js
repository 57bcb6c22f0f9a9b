// @ts-check
/**
 * One utterance as a row of bars: pale where it has arrived, coloured where it was played.
 *
 * In: an utterance. Out: pixels. Does not know: sound, time. The row doubles its time span when
 * it is full, and keeps its scale in between.
 *
 * @import {Utterance} from "./utterance.js"
 */

import { PEAK_MS } from "./utterance.js";

const BAR_WIDTH = 3;
const BAR_GAP = 2;
const SHORTEST_SPAN_S = 5;
/** Perceived loudness is closer to this than to the amplitude. */
const LOUDNESS_POWER = 0.6;

export class Waveform {
  /** @type {HTMLCanvasElement} */ #canvas;
  /** @type {CanvasRenderingContext2D} */ #pen;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    this.#pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  }

  /** @param {Utterance | null} utterance */
  draw(utterance) {
    const { width, height } = this.#fit();
    const colours = getComputedStyle(this.#canvas);
    const bars = Math.floor((width + BAR_GAP) / (BAR_WIDTH + BAR_GAP));
    const peaksPerBar = (spanS(utterance) * 1000) / PEAK_MS / bars;
    const played = (utterance?.playedMs ?? 0) / PEAK_MS;
    this.#pen.clearRect(0, 0, width, height);
    for (let bar = 0; bar < bars; bar++) {
      const from = bar * peaksPerBar;
      const level = utterance === null ? null : highest(utterance.peaks, from, from + peaksPerBar);
      const colour = level === null ? "--bar-empty" : from < played ? "--bar-heard" : "--bar-arrived";
      this.#pen.fillStyle = colours.getPropertyValue(colour);
      this.#bar(bar * (BAR_WIDTH + BAR_GAP), height, level ?? 0);
    }
  }

  /**
   * @param {number} x
   * @param {number} height
   * @param {number} level
   */
  #bar(x, height, level) {
    const length = Math.max(BAR_WIDTH, level ** LOUDNESS_POWER * height);
    this.#pen.beginPath();
    this.#pen.roundRect(x, (height - length) / 2, BAR_WIDTH, length, BAR_WIDTH / 2);
    this.#pen.fill();
  }

  /** Matches the canvas to its size in the page and to the screen's pixels; the size in CSS pixels. */
  #fit() {
    const { width, height } = this.#canvas.getBoundingClientRect();
    const scale = devicePixelRatio;
    const [pixelsWide, pixelsHigh] = [Math.round(width * scale), Math.round(height * scale)];
    if (this.#canvas.width !== pixelsWide) this.#canvas.width = pixelsWide;
    if (this.#canvas.height !== pixelsHigh) this.#canvas.height = pixelsHigh;
    this.#pen.setTransform(scale, 0, 0, scale, 0, 0);
    return { width, height };
  }
}

/** @param {Utterance | null} utterance */
function spanS(utterance) {
  const seconds = (utterance?.receivedMs ?? 0) / 1000;
  return SHORTEST_SPAN_S * 2 ** Math.max(0, Math.ceil(Math.log2(seconds / SHORTEST_SPAN_S)));
}

/**
 * @param {number[]} peaks
 * @param {number} from
 * @param {number} to
 * @returns {number | null} Null where nothing has arrived.
 */
function highest(peaks, from, to) {
  const first = Math.floor(from);
  if (first >= peaks.length) return null;
  return Math.max(...peaks.slice(first, Math.max(first + 1, Math.ceil(to))));
}

// @ts-check
/**
 * One utterance of the page: its audio, its figures, its outcome.
 *
 * In: its events and player reports. Out: the state that the displays show, and a WAV
 * file. Does not know: the displays.
 *
 * @import {Complete, Sentence, TimedWord} from "./client/protocol.js"
 * @import {Heard} from "./client/sample-queue.js"
 *
 * @typedef {"waiting" | "sounding" | "spoken" | "cancelled" | "failed"} Outcome
 */

import { FULL_SCALE, wavFile } from "./client/pcm.js";
import { samplesToMs } from "./client/protocol.js";

/** One peak of the waveform stands for this much sound. */
export const PEAK_MS = 40;

export class Utterance {
  /** @type {Outcome} */ outcome = "waiting";
  /** @type {Complete | null} */ complete = null;
  /** They tile its text. @type {Sentence[]} */ sentences = [];
  /** @type {TimedWord[]} */ words = [];
  /** Highest level of each `PEAK_MS`, in 0…1. @type {number[]} */ peaks = [];
  /** @type {number | null} */ wireTtfaMs = null;
  /** @type {number | null} */ audibleTtfaMs = null;
  receivedSamples = 0;
  playedSamples = 0;
  bufferedSamples = 0;
  underruns = 0;
  #broken = false;
  /** @type {Int16Array<ArrayBuffer>[]} */ #parts = [];
  #sentAtMs = performance.now();
  /** Its code points, which offsets count. @type {string[]} */ #chars;

  /**
   * @param {string} text
   * @param {number} sampleRateHz
   */
  constructor(text, sampleRateHz) {
    this.#chars = [...text];
    this.sampleRateHz = sampleRateHz;
  }

  get playedMs() {
    return samplesToMs(this.playedSamples, this.sampleRateHz);
  }

  get receivedMs() {
    return samplesToMs(this.receivedSamples, this.sampleRateHz);
  }

  get isOver() {
    return this.outcome !== "waiting" && this.outcome !== "sounding";
  }

  /** The sentence that is played, as written: before the word that is played, that word, after it. */
  get caption() {
    const atMs = this.playedMs;
    const word = this.words.filter(({ startMs }) => startMs <= atMs).pop();
    let [begin, end] = [0, 0];
    for (const { text, endMs } of this.sentences) {
      [begin, end] = [end, end + [...text].length];
      if (atMs < endMs) break;
      begin = end;
    }
    if (begin === end) end = wordEnd(this.words.at(-1)); // its time is not known yet
    const isWithin = word !== undefined && word.offset >= begin && wordEnd(word) <= end;
    const [from, to] = isWithin ? [word.offset, wordEnd(word)] : [end, end];
    return {
      before: this.#slice(begin, from).trimStart(),
      word: this.#slice(from, to),
      after: this.#slice(to, end).trimEnd(),
    };
  }

  /**
   * @param {Int16Array<ArrayBuffer>} pcm
   * @param {number} atMs
   */
  received(pcm, atMs) {
    this.wireTtfaMs ??= atMs - this.#sentAtMs;
    this.#parts.push(pcm);
    this.#addPeaks(pcm);
    this.receivedSamples += pcm.length;
  }

  /** @param {number} atMs */
  sounded(atMs) {
    this.audibleTtfaMs ??= atMs - this.#sentAtMs;
  }

  /**
   * @param {Heard} heard
   * @param {number} bufferedSamples
   */
  progressed({ playedSamples, underruns }, bufferedSamples) {
    this.playedSamples = playedSamples;
    this.underruns = underruns;
    this.bufferedSamples = bufferedSamples;
    if (this.outcome === "waiting") this.outcome = "sounding";
  }

  /** @param {Heard} heard */
  finished(heard) {
    this.progressed(heard, 0);
    if (this.outcome === "sounding") this.outcome = this.#broken ? "failed" : "spoken";
  }

  cancelled() {
    this.bufferedSamples = 0;
    if (!this.isOver) this.outcome = "cancelled";
  }

  /** Audio that has arrived is still played. */
  failed() {
    this.#broken = true;
    if (this.receivedSamples === 0) this.outcome = "failed";
  }

  toWav() {
    return wavFile(this.#parts, this.sampleRateHz);
  }

  /**
   * @param {number} begin
   * @param {number} end
   */
  #slice(begin, end) {
    return this.#chars.slice(begin, end).join("");
  }

  /** @param {Int16Array} pcm */
  #addPeaks(pcm) {
    const samplesPerPeak = (PEAK_MS * this.sampleRateHz) / 1000;
    for (const [i, sample] of pcm.entries()) {
      const peak = Math.floor((this.receivedSamples + i) / samplesPerPeak);
      this.peaks[peak] = Math.max(this.peaks[peak] ?? 0, Math.abs(sample) / FULL_SCALE);
    }
  }
}

/** @param {TimedWord | undefined} word */
const wordEnd = (word) => (word === undefined ? 0 : word.offset + word.length);

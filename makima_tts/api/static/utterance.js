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
  /** @type {Sentence[]} */ sentences = [];
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
    const sentence = this.sentences.find(({ endMs }) => atMs < endMs);
    const beginMs = sentence?.startMs ?? this.sentences.at(-1)?.endMs ?? 0; // the next one, not known yet
    const endMs = sentence?.endMs ?? Infinity;
    const words = this.words.filter((word) => beginMs <= middleMs(word) && middleMs(word) < endMs);
    const [first, last] = [words.at(0), words.at(-1)];
    if (first === undefined || last === undefined) {
      return { before: sentence?.text.trim() ?? "", word: "", after: "" };
    }
    const end = this.#endOfMarks(wordEnd(last));
    const word = words.filter(({ startMs }) => startMs <= atMs).pop();
    const [from, to] = word === undefined ? [end, end] : [word.offset, wordEnd(word)];
    return {
      before: this.#slice(first.offset, from),
      word: this.#slice(from, to),
      after: this.#slice(to, end),
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

  /** Past the punctuation of a word. @param {number} end */
  #endOfMarks(end) {
    const count = this.#chars.slice(end).findIndex((char) => /[\s\p{L}\p{N}<]/u.test(char));
    return count < 0 ? this.#chars.length : end + count;
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

/** @param {TimedWord} word */
const wordEnd = ({ offset, length }) => offset + length;

/** @param {TimedWord} word */
const middleMs = ({ startMs, endMs }) => (startMs + endMs) / 2;

// @ts-check
/**
 *  Playback without worklets (plain http on a LAN): each chunk is scheduled to begin on the sample after the
 * previous one.
 *
 * In: samples, ends, flushes. Out: sound; reports, taken from the context's clock. Does not know: the
 * network. Costs more than the worklet (a node per chunk) and its clock is coarser, so it is only the
 * fallback, and the page shows a notice.
 *
 * @import {PlayerOptions, PlayerReport} from "./player.js"
 * @import {Heard} from "./sample-queue.js"
 *
 * @typedef {object} Scheduled
 * @property {string} utterance
 * @property {number} beginFrame
 * @property {number} endFrame
 * @property {number} soundFrame The first one that is not silent; Infinity when all are.
 * @property {boolean} late It came after the queue had run empty.
 * @property {AudioBufferSourceNode | null} source Null at an utterance's end.
 */

import { SILENCE } from "./sample-queue.js";

const FADE_S = 0.01;
/** A chunk scheduled earlier than this from now would lose its beginning. */
const LEAD_S = 0.03;
const REPORT_EVERY_MS = 40;

export class ScheduledPlayer {
  /** @type {"scheduled"} */ kind = "scheduled";
  /** @type {AudioContext} */ context;
  /** @type {(report: PlayerReport) => void} */ #onReport;
  /** @type {GainNode} */ #output;
  /** @type {Scheduled[]} */ #scheduled = [];
  /** @type {ReturnType<typeof setInterval>} */ #reporting;
  #nextFrame = 0;
  /** The utterance of the newest part, until its end is known. @type {string | null} */ #open = null;
  /** @type {Heard | null} */ #heard = null;

  /**
   * @param {AudioContext} context
   * @param {PlayerOptions} options
   */
  constructor(context, { onReport }) {
    this.context = context;
    this.#onReport = onReport;
    this.#output = this.#newOutput();
    this.#reporting = setInterval(() => this.#report(), REPORT_EVERY_MS);
  }

  get #nowFrame() {
    return this.context.currentTime * this.context.sampleRate;
  }

  /**
   * @param {string} utterance
   * @param {Float32Array<ArrayBuffer>} samples
   */
  push(utterance, samples) {
    const earliest = Math.ceil(this.#nowFrame + LEAD_S * this.context.sampleRate);
    const late = this.#open === utterance && this.#nextFrame < this.#nowFrame;
    const beginFrame = this.#nextFrame < this.#nowFrame ? earliest : this.#nextFrame;
    const first = samples.findIndex((sample) => Math.abs(sample) > SILENCE);
    const soundFrame = first < 0 ? Infinity : beginFrame + first;
    this.#nextFrame = beginFrame + samples.length;
    this.#open = utterance;
    const source = this.#play(samples, beginFrame);
    this.#scheduled.push({ utterance, beginFrame, endFrame: this.#nextFrame, soundFrame, late, source });
  }

  /** @param {string} utterance */
  end(utterance) {
    const at = this.#nextFrame;
    this.#open = null;
    this.#scheduled.push({
      utterance,
      beginFrame: at,
      endFrame: at,
      soundFrame: Infinity,
      late: false,
      source: null,
    });
  }

  flush() {
    const silentAtS = this.context.currentTime + FADE_S;
    this.#output.gain.setValueAtTime(1, this.context.currentTime);
    this.#output.gain.linearRampToValueAtTime(0, silentAtS);
    for (const { source } of this.#scheduled) source?.stop(silentAtS);
    this.#output = this.#newOutput();
    this.#scheduled = [];
    this.#nextFrame = 0;
    this.#open = null;
    this.#heard = null;
  }

  close() {
    clearInterval(this.#reporting);
    return this.context.close();
  }

  #newOutput() {
    const output = new GainNode(this.context);
    output.connect(this.context.destination);
    return output;
  }

  /**
   * @param {Float32Array<ArrayBuffer>} samples
   * @param {number} beginFrame
   */
  #play(samples, beginFrame) {
    const buffer = this.context.createBuffer(1, samples.length, this.context.sampleRate);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.#output);
    source.start(beginFrame / this.context.sampleRate);
    return source;
  }

  #report() {
    const nowFrame = this.#nowFrame;
    for (const part of this.#scheduled) {
      if (part.beginFrame > nowFrame) break;
      this.#follow(part, nowFrame);
      if (part.source === null) this.#finish(part.utterance);
    }
    this.#scheduled = this.#scheduled.filter((part) => part.endFrame > nowFrame);
    if (this.#heard === null) return;
    const bufferedSamples = Math.max(0, Math.round(this.#nextFrame - nowFrame));
    this.#onReport({ type: "progress", heard: this.#heard, bufferedSamples });
  }

  /**
   * @param {Scheduled} part
   * @param {number} nowFrame
   */
  #follow(part, nowFrame) {
    if (part.source === null) return;
    this.#heard ??= { utterance: part.utterance, playedSamples: 0, underruns: 0, sounded: false };
    if (part.late) this.#heard.underruns += 1;
    part.late = false;
    this.#heard.playedSamples += Math.floor(Math.min(part.endFrame, nowFrame)) - part.beginFrame;
    part.beginFrame = Math.floor(Math.min(part.endFrame, nowFrame));
    if (!this.#heard.sounded && part.soundFrame <= nowFrame) this.#sounded(part, this.#heard);
  }

  /**
   * @param {Scheduled} part
   * @param {Heard} heard
   */
  #sounded(part, heard) {
    heard.sounded = true;
    const agoMs = ((this.#nowFrame - part.soundFrame) * 1000) / this.context.sampleRate;
    this.#onReport({ type: "sounded", utterance: part.utterance, atMs: performance.now() - agoMs });
  }

  /** @param {string} utterance */
  #finish(utterance) {
    this.#onReport({
      type: "finished",
      heard: this.#heard ?? { utterance, playedSamples: 0, underruns: 0, sounded: false },
    });
    this.#heard = null;
  }
}

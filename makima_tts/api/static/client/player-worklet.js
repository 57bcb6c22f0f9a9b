// @ts-check
/**
 *  The audio thread's side of playback.
 *
 * In: from the page, samples to queue, ends, flushes. Out: to the sound card, one quantum at a time; to the
 * page, the position of playback. Does not know: the network, the page.
 *
 * Runs on the audio thread, where a late quantum is a click: it allocates nothing while silent, and reports
 * only every few quanta.
 *
 * @import {Heard} from "./sample-queue.js"
 *
 * @typedef {{type: "push", utterance: string, samples: Float32Array<ArrayBuffer>}
 *   | {type: "end", utterance: string} | {type: "flush"}} ToWorklet
 * @typedef {{type: "sounded", utterance: string, atEpochMs: number}
 *   | {type: "progress", heard: Heard, bufferedSamples: number}
 *   | {type: "finished", heard: Heard}
 *   | {type: "captured", samples: Float32Array<ArrayBuffer>}} FromWorklet
 */

import { SampleQueue } from "./sample-queue.js";

/** 4 quanta of 128 samples at 24 kHz: 21 ms, about one frame of a display. */
const QUANTA_PER_REPORT = 4;

class PlayerWorklet extends AudioWorkletProcessor {
  #queue = new SampleQueue(sampleRate, {
    // The only clock that this thread and the page share.
    sounded: (utterance) => this.#tell({ type: "sounded", utterance, atEpochMs: Date.now() }),
    finished: (heard) => this.#tell({ type: "finished", heard }),
  });
  #quanta = 0;
  /** @type {boolean} */ #capture;

  /** @param {{processorOptions: {capture: boolean}}} options */
  constructor({ processorOptions }) {
    super();
    this.#capture = processorOptions.capture;
    this.port.onmessage = ({ data }) => this.#obey(data);
  }

  /** @param {ToWorklet} message */
  #obey(message) {
    if (message.type === "push") this.#queue.push(message.utterance, message.samples);
    else if (message.type === "end") this.#queue.end(message.utterance);
    else this.#queue.flush();
  }

  /**
   * @param {Float32Array[][]} _inputs
   * @param {Float32Array[][]} outputs
   */
  process(_inputs, outputs) {
    const output = /** @type {Float32Array} */ (outputs[0]?.[0]);
    this.#queue.read(output);
    if (this.#capture) this.#tell({ type: "captured", samples: output.slice() });
    this.#quanta += 1;
    if (this.#quanta % QUANTA_PER_REPORT === 0) this.#report();
    return true;
  }

  #report() {
    const { heard, bufferedSamples } = this.#queue;
    if (heard !== null) this.#tell({ type: "progress", heard, bufferedSamples });
  }

  /** @param {FromWorklet} message */
  #tell(message) {
    this.port.postMessage(message);
  }
}

registerProcessor("makima-player", PlayerWorklet);

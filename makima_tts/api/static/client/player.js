// @ts-check
/**
 * Playing: samples in, sound and progress out.
 *
 * In: samples of one utterance after another, its end, flushes. Out: sound, and reports of how far it has
 * come. Does not know: the network, who listens.
 *
 * The audio context runs at the rate the samples have, so that what the sound card's driver is handed are
 * the very samples that the server sent; the browser converts once, at its output, to whatever rate the
 * device has at the moment (it changes when headphones are plugged in). The other way round, a stream at the
 * device's rate, would double the bytes on the wire and still be wrong after such a change.
 *
 * @import {Heard} from "./sample-queue.js"
 *
 * @typedef {{type: "sounded", utterance: string, atMs: number}
 *   | {type: "progress", heard: Heard, bufferedSamples: number}
 *   | {type: "finished", heard: Heard}
 *   | {type: "captured", samples: Float32Array<ArrayBuffer>}} PlayerReport
 *   `atMs` is when the first sample that is not silent was handed to the sound card, on the clock of
 *   `performance.now()`; the device's own latency comes after it.
 *
 * @typedef {object} Player
 * @property {"worklet" | "scheduled"} kind
 * @property {(utterance: string, samples: Float32Array<ArrayBuffer>) => void} push
 * @property {(utterance: string) => void} end No more of this utterance will be pushed.
 * @property {() => void} flush Silence, at once but for a short fade.
 * @property {() => Promise<void>} close Lets go of the sound card; it cannot play again.
 * @property {AudioContext} context
 *
 * @typedef {object} PlayerOptions
 * @property {(report: PlayerReport) => void} onReport
 * @property {boolean} [capture] For tests: report every sample that leaves the worklet, silence too.
 */

import { ScheduledPlayer } from "./scheduled-player.js";
import { WorkletPlayer } from "./worklet-player.js";

/** Browsers offer worklets to https and localhost only. */
export const hasWorklets = () => typeof AudioWorkletNode === "function" && isSecureContext;

/**
 * Call it on a key or a click: browsers start sound only then.
 * @param {number} sampleRateHz
 * @param {PlayerOptions} options
 * @returns {Promise<Player>}
 */
export async function openPlayer(sampleRateHz, options) {
  const context = new AudioContext({ sampleRate: sampleRateHz, latencyHint: "interactive" });
  if (!hasWorklets()) return new ScheduledPlayer(context, options);
  try {
    return await WorkletPlayer.open(context, options);
  } catch (failure) {
    void context.close(); // a page may have a few of them only
    throw failure;
  }
}

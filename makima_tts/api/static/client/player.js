// @ts-check
/**
 *  Playback: samples in, sound and progress out.
 *
 * In: samples of one utterance after another, its end, flushes. Out: sound, and reports of its position.
 * Does not know: the network.
 *
 * The audio context runs at the rate of the samples, so that it plays the samples that the server sent; the
 * browser converts once, at its output, to the device's current rate (which changes when headphones are
 * plugged in). A stream at the device's rate would double the bytes on the wire and be wrong after such a
 * change.
 *
 * @import {Heard} from "./sample-queue.js"
 *
 * @typedef {{type: "sounded", utterance: string, atMs: number}
 *   | {type: "progress", heard: Heard, bufferedSamples: number}
 *   | {type: "finished", heard: Heard}
 *   | {type: "captured", samples: Float32Array<ArrayBuffer>}} PlayerReport
 *   `atMs` is when the sound card took the first sample that is not silent, on the clock of
 *   `performance.now()`; the device's own latency follows.
 *
 * @typedef {object} Player
 * @property {"worklet" | "scheduled"} kind
 * @property {(utterance: string, samples: Float32Array<ArrayBuffer>) => void} push
 * @property {(utterance: string) => void} end No more of this utterance will be pushed.
 * @property {() => void} flush Silences it at once, with a short fade.
 * @property {() => Promise<void>} close Releases the sound card; it cannot play again.
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
 * Call it in a key or click handler, as browsers require for sound.
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
    void context.close(); // browsers limit their number per page
    throw failure;
  }
}

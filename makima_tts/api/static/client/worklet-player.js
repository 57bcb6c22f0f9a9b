// @ts-check
/**
 *  The page's side of playback through an AudioWorklet.
 *
 * In: samples, ends, flushes. Out: the same to the audio thread; its reports, in the page's time. Does not
 * know: the queue (the worklet has it), the network.
 *
 * @import {FromWorklet, ToWorklet} from "./player-worklet.js"
 * @import {PlayerOptions, PlayerReport} from "./player.js"
 */

export class WorkletPlayer {
  /** @type {"worklet"} */ kind = "worklet";
  /** @type {AudioContext} */ context;
  /** @type {MessagePort} */ #port;
  /** @type {(report: PlayerReport) => void} */ #onReport;

  /**
   * @param {AudioContext} context
   * @param {PlayerOptions} options
   */
  static async open(context, options) {
    await context.audioWorklet.addModule(new URL("./player-worklet.js", import.meta.url));
    return new WorkletPlayer(context, options);
  }

  /**
   * @param {AudioContext} context Its worklet module is loaded.
   * @param {PlayerOptions} options
   */
  constructor(context, { onReport, capture = false }) {
    const node = new AudioWorkletNode(context, "makima-player", {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions: { capture },
    });
    node.connect(context.destination);
    this.context = context;
    this.#port = node.port;
    this.#port.onmessage = ({ data }) => this.#heard(data);
    this.#onReport = onReport;
  }

  /**
   * @param {string} utterance
   * @param {Float32Array<ArrayBuffer>} samples Transferred: the caller's array is empty afterwards.
   */
  push(utterance, samples) {
    this.#tell({ type: "push", utterance, samples }, [samples.buffer]);
  }

  /** @param {string} utterance */
  end(utterance) {
    this.#tell({ type: "end", utterance });
  }

  flush() {
    this.#tell({ type: "flush" });
  }

  close() {
    return this.context.close();
  }

  /**
   * @param {ToWorklet} message
   * @param {Transferable[]} [transfer]
   */
  #tell(message, transfer = []) {
    this.#port.postMessage(message, transfer);
  }

  /** @param {FromWorklet} message */
  #heard(message) {
    if (message.type === "sounded") {
      const { type, utterance, atEpochMs } = message;
      this.#onReport({ type, utterance, atMs: performance.now() - (Date.now() - atEpochMs) });
    } else {
      this.#onReport(message);
    }
  }
}

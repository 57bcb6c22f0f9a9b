// @ts-check
/**
 *  The microphone after echo cancellation, with the probability of a voice.
 *
 * In: a microphone. Out: frames of 10 ms, each with a probability. Does not know: their use.
 *
 * The browser cancels the echo of its own playback. RNNoise, a small neural network, computes the probability
 * of a voice.
 */

import { Rnnoise } from "@shiguredo/rnnoise-wasm";

/** The rate that RNNoise requires. */
export const SAMPLE_RATE_HZ = 48_000;
/** It takes floats in the range of 16-bit samples. */
const FULL_SCALE = 32768;

const FOR_CONVERSATION = {
  channelCount: 1,
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
};

export class Microphone {
  /** @type {MediaStream} */ #stream;
  /** @type {AudioContext} */ #context;

  /**
   * Call it on a click. Rejects when there is no microphone, or none for this page; then none stays on.
   * @param {(frame: Float32Array<ArrayBuffer>, voice: number) => void} onFrame
   */
  static async open(onFrame) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: FOR_CONVERSATION });
    const context = new AudioContext({ sampleRate: SAMPLE_RATE_HZ });
    const microphone = new Microphone(stream, context);
    try {
      await microphone.#listen(onFrame);
    } catch (failure) {
      microphone.close();
      throw failure;
    }
    return microphone;
  }

  /**
   * @param {MediaStream} stream
   * @param {AudioContext} context
   */
  constructor(stream, context) {
    this.#stream = stream;
    this.#context = context;
  }

  close() {
    for (const track of this.#stream.getTracks()) track.stop();
    void this.#context.close();
  }

  /** @param {(frame: Float32Array<ArrayBuffer>, voice: number) => void} onFrame */
  async #listen(onFrame) {
    const judge = (await Rnnoise.load()).createDenoiseState();
    await this.#context.audioWorklet.addModule(new URL("./microphone-worklet.js", import.meta.url));
    const node = new AudioWorkletNode(this.#context, "microphone", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => {
      // A copy, since RNNoise overwrites it with the denoised frame.
      onFrame(data, judge.processFrame(data.map((/** @type {number} */ sample) => sample * FULL_SCALE)));
    };
    new MediaStreamAudioSourceNode(this.#context, { mediaStream: this.#stream }).connect(node);
  }
}

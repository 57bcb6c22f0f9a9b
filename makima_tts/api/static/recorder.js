// @ts-check
/**
 * Records the microphone without the browser's processing (echo cancellation, noise suppression, gain
 * control) and without a lossy codec, because a cloned voice would imitate their artefacts.
 *
 * In: a microphone. Out: a WAV file; its length and level so far. Does not know: the page.
 */

import { toPcm16, wavFile } from "./client/pcm.js";

const AS_IT_IS = {
  channelCount: 1,
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
};

/** Like worklets, the microphone is available on https and localhost only. */
export const canRecord = () => isSecureContext && navigator.mediaDevices !== undefined;

export class Recorder {
  /** @type {MediaStream} */ #stream;
  /** @type {AudioContext} */ #context;
  /** @type {(durationS: number, level: number) => void} */ #onSound;
  /** @type {Int16Array<ArrayBuffer>[]} */ #parts = [];
  #samples = 0;

  /**
   * Rejects when there is no microphone, or none for this page; then none stays on.
   * @param {(durationS: number, level: number) => void} onSound Level in 0…1.
   */
  static async begin(onSound) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: AS_IT_IS });
    try {
      const context = new AudioContext();
      await context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
      return new Recorder(stream, context, onSound);
    } catch (error) {
      letGo(stream);
      throw error;
    }
  }

  /**
   * @param {MediaStream} stream
   * @param {AudioContext} context
   * @param {(durationS: number, level: number) => void} onSound
   */
  constructor(stream, context, onSound) {
    this.#stream = stream;
    this.#context = context;
    this.#onSound = onSound;
    const node = new AudioWorkletNode(context, "makima-recorder", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => this.#heard(data);
    new MediaStreamAudioSourceNode(context, { mediaStream: stream }).connect(node);
  }

  /** Closes the microphone. @returns {Promise<Blob>} */
  async stop() {
    letGo(this.#stream);
    await this.#context.close();
    return wavFile(this.#parts, this.#context.sampleRate);
  }

  /** @param {Float32Array} quantum */
  #heard(quantum) {
    this.#parts.push(toPcm16(quantum));
    this.#samples += quantum.length;
    const level = quantum.reduce((highest, sample) => Math.max(highest, Math.abs(sample)), 0);
    this.#onSound(this.#samples / this.#context.sampleRate, level);
  }
}

/** @param {MediaStream} stream */
function letGo(stream) {
  for (const track of stream.getTracks()) track.stop();
}

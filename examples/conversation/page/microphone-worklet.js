// @ts-check
/**
 *  The audio thread's side of the microphone.
 *
 * In: from the microphone, one quantum at a time. Out: to the page, frames of 10 ms. Does not know: the
 * rest. It imports nothing, so that bundlers can copy it unchanged.
 */

const FRAME_SAMPLES = sampleRate / 100;

class Microphone extends AudioWorkletProcessor {
  #frame = new Float32Array(FRAME_SAMPLES);
  #filled = 0;

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    for (const sample of inputs[0]?.[0] ?? []) {
      this.#frame[this.#filled++] = sample;
      if (this.#filled === FRAME_SAMPLES) this.#send();
    }
    return true;
  }

  #send() {
    this.port.postMessage(this.#frame);
    this.#frame = new Float32Array(FRAME_SAMPLES);
    this.#filled = 0;
  }
}

registerProcessor("microphone", Microphone);

// @ts-check
/**
 * The audio thread's side of recording.
 *
 * In: the microphone's samples, one quantum at a time. Out: the same to the page. Does not know: the rest.
 */

class RecorderWorklet extends AudioWorkletProcessor {
  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const quantum = inputs[0]?.[0];
    if (quantum !== undefined) this.port.postMessage(quantum.slice());
    return true;
  }
}

registerProcessor("makima-recorder", RecorderWorklet);

// @ts-check
/**
 * The microphone's side of recording.
 *
 * In: from the microphone, one quantum at a time. Out: the same to the page. Does not know: anything else.
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

// @ts-check
/**
 *  The queue of samples to play.
 *
 * In: samples of one utterance after another, its end, a flush. Out: as many samples as the sound card asks
 * for. Does not know: clocks, threads, Web Audio.
 *
 * It drops samples only in `flush`; when it is empty it returns silence. It keeps the arrays it is given
 * rather than copying them into a ring, so it cannot overflow; the server bounds it, which sends at most 20 s
 * ahead of playback.
 *
 * @typedef {object} Heard The utterance that is played.
 * @property {string} utterance
 * @property {number} playedSamples
 * @property {number} underruns How often its audio came after the queue had run empty.
 * @property {boolean} sounded Whether a sample of it was not silent.
 *
 * @typedef {{utterance: string, samples: Float32Array | null}} Part `samples` is null at an utterance's end.
 *
 * @typedef {object} QueueReports
 * @property {(utterance: string) => void} sounded Its first sample that is not silent went out.
 * @property {(heard: Heard) => void} finished Its last sample went out.
 */

/** −60 dBFS: below it a sample is silent. */
export const SILENCE = 0.001;
/** A cut within a wave clicks; a fade of this length neither clicks nor is heard as a tail. */
const FADE_S = 0.01;
/** After an underrun this much is buffered first, so that one pause does not become several. */
const REFILL_S = 0.25;

const FADING = "";

export class SampleQueue {
  /** @type {Part[]} */ #parts = [];
  #offset = 0;
  #bufferedSamples = 0;
  #endsQueued = 0;
  /** @type {Heard | null} */ #heard = null;
  /** @type {"flowing" | "dry" | "refilling"} */ #flow = "flowing";
  /** @type {number} */ #sampleRateHz;
  /** @type {QueueReports} */ #reports;

  /**
   * @param {number} sampleRateHz
   * @param {QueueReports} reports
   */
  constructor(sampleRateHz, reports) {
    this.#sampleRateHz = sampleRateHz;
    this.#reports = reports;
  }

  get heard() {
    return this.#heard;
  }

  get bufferedSamples() {
    return this.#bufferedSamples;
  }

  /**
   * @param {string} utterance
   * @param {Float32Array} samples Kept, not copied.
   */
  push(utterance, samples) {
    this.#parts.push({ utterance, samples });
    this.#bufferedSamples += samples.length;
    if (this.#flow === "dry" && this.#heard !== null) {
      this.#flow = "refilling";
      this.#heard.underruns += 1;
    }
  }

  /** @param {string} utterance */
  end(utterance) {
    this.#parts.push({ utterance, samples: null });
    this.#endsQueued += 1;
  }

  /** Drops everything except a short fade of the current samples. */
  flush() {
    const fade = this.#flow === "flowing" ? this.#fade() : null;
    this.#parts = fade === null ? [] : [{ utterance: FADING, samples: fade }];
    this.#bufferedSamples = fade?.length ?? 0;
    this.#offset = 0;
    this.#endsQueued = 0;
    this.#heard = null;
    this.#flow = "flowing";
  }

  /**
   * Fills all of `output`, with silence where the queue is empty.
   * @param {Float32Array} output
   */
  read(output) {
    const refilled = this.#endsQueued > 0 || this.#bufferedSamples >= REFILL_S * this.#sampleRateHz;
    if (this.#flow !== "flowing" && refilled) this.#flow = "flowing";
    const filled = this.#flow === "flowing" ? this.#fill(output) : 0;
    output.fill(0, filled);
    if (filled < output.length && this.#heard !== null && this.#flow === "flowing") this.#flow = "dry";
  }

  /** @param {Float32Array} output */
  #fill(output) {
    let filled = 0;
    while (filled < output.length) {
      const part = this.#parts[0];
      if (part === undefined) break;
      if (part.samples === null) this.#finish(part.utterance);
      else filled += this.#play(part.utterance, part.samples, output, filled);
    }
    return filled;
  }

  /**
   * @param {string} utterance
   * @param {Float32Array} samples
   * @param {Float32Array} output
   * @param {number} at
   * @returns {number} How many samples were written.
   */
  #play(utterance, samples, output, at) {
    const count = Math.min(output.length - at, samples.length - this.#offset);
    const played = samples.subarray(this.#offset, this.#offset + count);
    output.set(played, at);
    this.#offset += count;
    this.#bufferedSamples -= count;
    if (this.#offset === samples.length) this.#next();
    if (utterance !== FADING) this.#note(utterance, played);
    return count;
  }

  #next() {
    this.#parts.shift();
    this.#offset = 0;
  }

  /**
   * @param {string} utterance
   * @param {Float32Array} played
   */
  #note(utterance, played) {
    this.#heard ??= { utterance, playedSamples: 0, underruns: 0, sounded: false };
    this.#heard.playedSamples += played.length;
    if (this.#heard.sounded) return;
    this.#heard.sounded = played.some((sample) => Math.abs(sample) > SILENCE);
    if (this.#heard.sounded) this.#reports.sounded(utterance);
  }

  /** @param {string} utterance */
  #finish(utterance) {
    this.#next();
    this.#endsQueued -= 1;
    this.#reports.finished(this.#heard ?? { utterance, playedSamples: 0, underruns: 0, sounded: false });
    this.#heard = null;
  }

  /** @returns {Float32Array | null} The next samples, fading to silence. */
  #fade() {
    const audible = this.#heard !== null || this.#parts[0]?.utterance === FADING;
    if (!audible) return null;
    const fade = new Float32Array(Math.round(FADE_S * this.#sampleRateHz));
    const count = this.#fill(fade);
    return fade
      .subarray(0, count)
      .map((sample, i) => sample * 0.5 * (1 + Math.cos((Math.PI * (i + 1)) / count)));
  }
}

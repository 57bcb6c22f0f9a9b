// @ts-check
/**
 * When somebody begins to speak, and when they have finished.
 *
 * In: frames of 10 ms, each with how much it sounds like a voice. Out: that a turn has begun; the turn, once
 * it is over. Does not know: where either comes from.
 *
 * A cough is no turn, and to draw breath is not to have finished: both take a while to be believed.
 *
 * @typedef {{begun: () => void, ended: (turn: Float32Array<ArrayBuffer>[]) => void}} TurnReports
 */

export const FRAME_MS = 10;

/** Above it is voice. */
const VOICE = 0.6;
/** So much voice on end begins a turn. */
const BEGINS_FRAMES = 12;
/** So much without any ends it. */
const ENDS_FRAMES = 70;
/** What came just before the first voice belongs to the first word, and what came just after it to the last. */
const BEFORE_FRAMES = 30;
const AFTER_FRAMES = 20;

export class Turns {
  /** @type {TurnReports} */ #reports;
  /** @type {Float32Array<ArrayBuffer>[]} */ #frames = [];
  #speaking = false;
  /** How long it has been otherwise: voice between turns, none within one. */ #otherwiseFrames = 0;

  /** @param {TurnReports} reports */
  constructor(reports) {
    this.#reports = reports;
  }

  /**
   * @param {Float32Array<ArrayBuffer>} frame
   * @param {number} voice In 0…1.
   */
  hear(frame, voice) {
    this.#frames.push(frame);
    this.#otherwiseFrames = voice > VOICE === this.#speaking ? 0 : this.#otherwiseFrames + 1;
    if (this.#speaking) this.#perhapsEnd();
    else this.#perhapsBegin();
  }

  #perhapsBegin() {
    this.#frames = this.#frames.slice(-BEFORE_FRAMES - BEGINS_FRAMES);
    if (this.#otherwiseFrames < BEGINS_FRAMES) return;
    this.#turn(true);
    this.#reports.begun();
  }

  #perhapsEnd() {
    if (this.#otherwiseFrames < ENDS_FRAMES) return;
    const turn = this.#frames.slice(0, AFTER_FRAMES - ENDS_FRAMES);
    this.#frames = [];
    this.#turn(false);
    this.#reports.ended(turn);
  }

  /** @param {boolean} speaking */
  #turn(speaking) {
    this.#speaking = speaking;
    this.#otherwiseFrames = 0;
  }
}

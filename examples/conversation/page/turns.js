// @ts-check
/**
 *  Turn detection: when a voice begins, and when it has ended.
 *
 * In: frames of 10 ms, each with the probability of a voice. Out: an event at the begin of a turn; its frames
 * at the end. Does not know: the microphone.
 *
 * Both need a minimum duration, since a cough is not a turn and a breath does not end one.
 *
 * @typedef {{begun: () => void, ended: (turn: Float32Array<ArrayBuffer>[]) => void}} TurnReports
 */

export const FRAME_MS = 10;

/** Above it is voice. */
const VOICE = 0.6;
/** This much continuous voice begins a turn. */
const BEGINS_FRAMES = 12;
/** This much silence ends it. */
const ENDS_FRAMES = 70;
/** Kept before the first voice and after the last, since words begin earlier and end later. */
const BEFORE_FRAMES = 30;
const AFTER_FRAMES = 20;

export class Turns {
  /** @type {TurnReports} */ #reports;
  /** @type {Float32Array<ArrayBuffer>[]} */ #frames = [];
  #speaking = false;
  /** Duration of the opposite so far: of voice between turns, of silence within one. */ #otherwiseFrames = 0;

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

// @ts-check
/** The laws of turns: what begins one, what ends it, and that no sound of it is lost. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Turns } from "../turns.js";

/**
 * Frames that are numbered, so that one can tell them apart.
 * @param {[frames: number, voice: number][]} heard
 */
function play(heard) {
  /** @type {string[]} */ const happened = [];
  /** @type {number[][]} */ const turns = [];
  let number = 0;
  const listener = new Turns({
    begun: () => happened.push(`begun at ${number}`),
    ended: (turn) => {
      happened.push(`ended at ${number}`);
      turns.push(turn.map((frame) => frame[0] ?? NaN));
    },
  });
  for (const [frames, voice] of heard) {
    for (let i = 0; i < frames; i++) listener.hear(Float32Array.of(++number), voice);
  }
  return { happened, turns };
}

test("a voice begins a turn, and silence ends it", () => {
  const { happened } = play([[100, 0], [50, 0.9], [200, 0]]);
  assert.deepEqual(happened, ["begun at 112", "ended at 220"]);
});

test("a cough is no turn", () => {
  assert.deepEqual(play([[100, 0], [11, 0.9], [100, 0]]).happened, []);
});

test("to draw breath is not to have finished", () => {
  const { happened } = play([[50, 0.9], [69, 0], [50, 0.9], [70, 0]]);
  assert.deepEqual(happened, ["begun at 12", "ended at 239"]);
});

test("a turn is every frame of it, and a little before and after", () => {
  const { turns } = play([[100, 0], [50, 0.9], [200, 0], [40, 0.9], [100, 0]]);
  assert.equal(turns.length, 2);
  for (const turn of turns) {
    turn.forEach((number, i) => assert.equal(number, (turn[0] ?? NaN) + i));
  }
  const [first, second] = turns;
  assert.ok(first !== undefined && first[0] !== undefined && first[0] <= 80 && (first.at(-1) ?? 0) >= 170);
  assert.ok(second !== undefined && second[0] !== undefined && second[0] > 220 && (second.at(-1) ?? 0) >= 410);
});

/** The laws of cutting a text where listening has stopped. */

import { expect, test } from "vitest";
import { splitAtHeard } from "../dist/heard-text.js";

const TEXT = "A first sentence.  And a second one, which is longer. A third.";
const sentence = (index: number, text: string, startMs: number, endMs: number) =>
  ({ type: "sentence", utteranceId: "a", index, text, startMs, endMs }) as const;
const SENTENCES = [
  sentence(0, "A first sentence.", 0, 1000),
  sentence(1, "And a second one, which is longer.", 1000, 3000),
];

test("the two parts are the text, whenever it is cut", () => {
  for (let playedMs = 0; playedMs <= 4000; playedMs += 50) {
    const { textSpoken, textRemaining } = splitAtHeard(TEXT, SENTENCES, playedMs);
    expect(textSpoken + textRemaining).toBe(TEXT);
    expect(textSpoken).not.toMatch(/\s$/);
    expect(textRemaining).toMatch(textSpoken === "" ? /^A/ : /^\s/);
  }
});

test("the longer it was heard, the more of it was spoken", () => {
  const lengths = Array.from({ length: 80 }, (_, i) => splitAtHeard(TEXT, SENTENCES, i * 50).textSpoken.length);
  expect(lengths).toEqual([...lengths].sort((a, b) => a - b));
});

test.each([
  [0, ""],
  [500, "A first"],
  [1000, "A first sentence."],
  [1900, "A first sentence.  And a second"],
  [2000, "A first sentence.  And a second one,"],
  [3000, "A first sentence.  And a second one, which is longer."],
  [9000, "A first sentence.  And a second one, which is longer."],
])("after %i ms", (playedMs, textSpoken) => {
  expect(splitAtHeard(TEXT, SENTENCES, playedMs).textSpoken).toBe(textSpoken);
});

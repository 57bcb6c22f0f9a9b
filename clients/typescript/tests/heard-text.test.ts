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
/** Every word of 100 ms, the second sentence begins at 1000 ms; the third is not known yet. */
const WORDS = [...TEXT.matchAll(/\w+/g)].slice(0, 10).map((match, i) => ({
  word: match[0],
  offset: match.index,
  length: match[0].length,
  startMs: (i < 3 ? 0 : 700) + i * 100,
  endMs: (i < 3 ? 0 : 700) + i * 100 + 100,
}));
const BY_SENTENCES = { sentences: SENTENCES, words: [] };
const BY_WORDS = { sentences: SENTENCES, words: WORDS };

test.each([
  ["sentences", BY_SENTENCES],
  ["words", BY_WORDS],
])("the two parts are the text, whenever it is cut: by %s", (_, known) => {
  for (let playedMs = 0; playedMs <= 4000; playedMs += 50) {
    const { textSpoken, textRemaining } = splitAtHeard(TEXT, known, playedMs);
    expect(textSpoken + textRemaining).toBe(TEXT);
    expect(textSpoken).not.toMatch(/\s$/);
    expect(textRemaining).toMatch(textSpoken === "" ? /^A/ : /^\s/);
  }
});

test("the longer it was heard, the more of it was spoken", () => {
  const lengths = Array.from({ length: 80 }, (_, i) => splitAtHeard(TEXT, BY_SENTENCES, i * 50).textSpoken.length);
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
  expect(splitAtHeard(TEXT, BY_SENTENCES, playedMs).textSpoken).toBe(textSpoken);
});

test.each([
  [50, ""],
  [199, "A"],
  [200, "A first"],
  [300, "A first sentence."],
  [1000, "A first sentence."],
  [1150, "A first sentence.  And"],
  [1399, "A first sentence.  And a second"],
  [1400, "A first sentence.  And a second one,"],
  [9000, "A first sentence.  And a second one, which is longer."],
])("after %i ms, by words", (playedMs, textSpoken) => {
  expect(splitAtHeard(TEXT, BY_WORDS, playedMs).textSpoken).toBe(textSpoken);
});

test("offsets of words count code points", () => {
  const words = [{ word: "two", offset: 2, length: 3, startMs: 0, endMs: 100 }];
  expect(splitAtHeard("𝒳 two, 三", { sentences: [], words }, 100)).toEqual({
    textSpoken: "𝒳 two,",
    textRemaining: " 三",
  });
});

// @ts-check
/**
 * How much of a text was heard when it was cut off.
 *
 * In: a text, when its pieces were spoken, how much was heard. Out: the text in two parts. Does not know:
 * who cut it off.
 *
 * The service estimates the same for what it is still speaking. But it sends faster than anybody listens, so
 * most of what is cut off has been spoken to its end as far as the service is concerned, and only the
 * listener's side knows how far listening has come.
 *
 * @import {Sentence} from "./protocol.js"
 */

/**
 * Cut between words, after the last that was heard to its end.
 * @param {string} text All that was written.
 * @param {Sentence[]} sentences What is known to have been spoken of it, in order.
 * @param {number} playedMs Infinity: all of what is known to have been spoken.
 * @returns {{textSpoken: string, textRemaining: string}}
 */
export function splitAtHeard(text, sentences, playedMs) {
  let at = 0;
  for (const sentence of sentences) {
    if (sentence.startMs >= playedMs) break;
    const begin = text.indexOf(sentence.text, at);
    const chars = heardChars(sentence, playedMs);
    if (begin < 0 || chars === 0) break;
    at = begin + chars;
  }
  return { textSpoken: text.slice(0, at), textRemaining: text.slice(at) };
}

/**
 * @param {Sentence} sentence
 * @param {number} playedMs After its beginning.
 */
function heardChars({ text, startMs, endMs }, playedMs) {
  if (playedMs >= endMs) return text.length;
  const around = Math.floor((text.length * (playedMs - startMs)) / (endMs - startMs));
  return /** @type {RegExpMatchArray} */ (text.slice(0, around + 1).match(/^(.*\s)?/s))[0].trimEnd().length;
}

// @ts-check
/**
 *  The part of a text that was heard before its interruption.
 *
 * In: a text, the times of its sentences, the position of playback. Out: the text in two parts. Does not
 * know: the cause of the interruption.
 *
 * The service estimates the same for utterances that it still speaks. But it sends faster than real time, so
 * most interrupted utterances are complete for the service, and only the client knows the position of
 * playback.
 *
 * @import {Sentence} from "./protocol.js"
 */

/**
 * Split after the last word that was played completely.
 * @param {string} text All that was written.
 * @param {Sentence[]} sentences Its sentences with known times, in order.
 * @param {number} playedMs Infinity: all sentences with known times.
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

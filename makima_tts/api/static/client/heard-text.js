// @ts-check
/**
 *  The part of a text that was heard before its interruption.
 *
 * In: a text, the times of its sentences and words, the position of playback. Out: the text in two parts. Does not
 * know: the cause of the interruption.
 *
 * The service estimates the same for utterances that it still speaks. But it sends faster than real time, so
 * most interrupted utterances are complete for the service, and only the client knows the position of
 * playback.
 *
 * @import {Sentence, TimedWord} from "./protocol.js"
 */

/**
 * Split after the last word that was played completely; without times of words, by the share of its sentence.
 * @param {string} text All that was written.
 * @param {{sentences: Sentence[], words: TimedWord[]}} known Those with known times, in order.
 * @param {number} playedMs Infinity: all with known times.
 * @returns {{textSpoken: string, textRemaining: string}}
 */
export function splitAtHeard(text, { sentences, words }, playedMs) {
  const played = sentences.filter(({ endMs }) => words.length === 0 || endMs <= playedMs);
  const at = Math.max(heardOfSentences(text, played, playedMs), heardOfWords(text, words, playedMs));
  return { textSpoken: text.slice(0, at), textRemaining: text.slice(at) };
}

/**
 * @param {string} text
 * @param {TimedWord[]} words
 * @param {number} playedMs
 */
function heardOfWords(text, words, playedMs) {
  const word = words.filter(({ endMs }) => endMs <= playedMs).pop();
  if (word === undefined) return 0;
  const chars = [...text]; // offsets count code points
  const end = word.offset + word.length;
  const marks = chars.slice(end).findIndex((char) => /[\s\p{L}\p{N}([{<]/u.test(char));
  return chars.slice(0, marks < 0 ? undefined : end + marks).join("").length;
}

/**
 * @param {string} text
 * @param {Sentence[]} sentences
 * @param {number} playedMs
 */
function heardOfSentences(text, sentences, playedMs) {
  let at = 0;
  for (const sentence of sentences) {
    if (sentence.startMs >= playedMs) break;
    const begin = text.indexOf(sentence.text, at);
    const chars = heardChars(sentence, playedMs);
    if (begin < 0 || chars === 0) break;
    at = begin + chars;
  }
  return at;
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

// @ts-check
/**
 *  Splits a text into messages of the size that the service accepts.
 *
 * In: a text, whole or still being written. Out: its parts, in order, which the service joins without
 * a separator. Does not know: sockets, utterances.
 *
 * @typedef {string | Iterable<string> | AsyncIterable<string>} Text
 */

/**
 * @param {Text} text
 * @param {number} maxChars Unicode code points, as the service counts.
 * @returns {AsyncGenerator<{text: string, final: boolean}>} Only the last one is final.
 */
export async function* partsOf(text, maxChars) {
  if (typeof text === "string" && [...text].length <= maxChars) {
    yield { text, final: true };
    return;
  }
  for await (const written of typeof text === "string" ? [text] : text) {
    for (const part of pieces(written, maxChars)) yield { text: part, final: false };
  }
  yield { text: "", final: true };
}

/**
 * @param {string} text
 * @param {number} maxChars
 */
function* pieces(text, maxChars) {
  const chars = [...text];
  for (let at = 0; at < chars.length; at += maxChars) yield chars.slice(at, at + maxChars).join("");
}

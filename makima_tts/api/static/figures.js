// @ts-check
/**
 * The figures of one utterance: time to first audio, real-time factor, underruns.
 *
 * In: an utterance. Out: numbers in the page. Does not know: their measurement.
 *
 * @import {Utterance} from "./utterance.js"
 */

import { byId } from "./elements.js";

const NONE = "–";

/** @param {number | null | undefined} ms */
const inMs = (ms) => (ms == null ? NONE : `${Math.round(ms)} ms`);

/** @type {Record<string, (utterance: Utterance) => string>} */
const FIGURES = {
  "figure-server": ({ complete }) => inMs(complete?.ttfaMs),
  "figure-wire": ({ wireTtfaMs }) => inMs(wireTtfaMs),
  "figure-audible": ({ audibleTtfaMs }) => inMs(audibleTtfaMs),
  "figure-rtf": ({ complete }) => complete?.rtf.toPrecision(2) ?? NONE,
  "figure-buffered": ({ bufferedSamples, sampleRateHz }) =>
    `${(bufferedSamples / sampleRateHz).toFixed(1)} s`,
  "figure-underruns": ({ underruns }) => String(underruns),
};

/** @param {Utterance | null} utterance */
export function showFigures(utterance) {
  for (const [id, figure] of Object.entries(FIGURES)) {
    byId(id).textContent = utterance === null ? NONE : figure(utterance);
  }
}

// @ts-check
/**
 * The service's voices over HTTP.
 *
 * In: a clip with its transcript and name; ids. Out: voices, reports on clips, ServiceError. Does not know:
 * the page.
 *
 * @typedef {object} Voice
 * @property {string} id
 * @property {string} name
 * @property {string} language
 * @property {string} description
 * @property {boolean} isDefault
 * @property {boolean} available
 * @property {string | null} reason Why it is not available, and what to do.
 *
 * @typedef {object} ClipReport
 * @property {number} durationMs
 * @property {number} usedMs Its length after mending.
 * @property {number} sampleRate
 * @property {number} levelDbfs
 * @property {number} peakDbfs
 * @property {number} clippedRatio Share of samples at full scale, 0…1.
 * @property {number} noiseFloorDbfs
 * @property {number} trailingSilenceMs
 * @property {string[]} mended
 * @property {string[]} warnings
 *
 * @typedef {{voice: Voice, report: ClipReport}} AddedVoice
 */

/** Relative to the page, so that the service works under a path behind a proxy. */
const VOICES_URL = new URL("api/v1/voices", document.baseURI);

export class ServiceError extends Error {
  /** @param {{code: string, message: string, retryAfterMs?: number}} error */
  constructor({ code, message, retryAfterMs }) {
    super(message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** @returns {Promise<Voice[]>} */
export async function listVoices() {
  return (await ask("GET", VOICES_URL)).voices;
}

/**
 * @param {FormData} form `audio`, `transcript`, `name`, `language`, `consent`.
 * @returns {Promise<AddedVoice>}
 */
export async function addVoice(form) {
  return ask("POST", VOICES_URL, form);
}

/** @param {string} id */
export async function removeVoice(id) {
  await ask("DELETE", new URL(`${VOICES_URL}/${encodeURIComponent(id)}`));
}

/**
 * @param {string} method
 * @param {URL} url
 * @param {FormData} [body]
 */
async function ask(method, url, body) {
  const response = await fetch(url, { method, body }).catch(() => null);
  if (response === null) throw unreachable();
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new ServiceError(answer?.error ?? unreadable(response.status));
  return answer;
}

function unreachable() {
  return new ServiceError({ code: "TTS_UNAVAILABLE", message: "The service did not answer." });
}

/** @param {number} status */
function unreadable(status) {
  const code = status === 413 ? "PAYLOAD_TOO_LARGE" : "TTS_UNAVAILABLE";
  return { code, message: `The service answered with HTTP status ${status}.` };
}

// @ts-check
/**
 * Converts a recording to a format that the service reads.
 *
 * In: a file of any kind that the browser can read. Out: one that the service can read, and its length. Does
 * not know: the page.
 */

import { toPcm16, wavFile } from "./client/pcm.js";
import { ServiceError } from "./voices.js";

/** Formats that the service reads; these are sent unchanged. */
const READ_BY_SERVICE = /\.(wav|flac|ogg|mp3)$/i;

/**
 * @typedef {{file: File, durationS: number}} Clip
 * @param {File} file
 * @returns {Promise<Clip>}
 */
export async function prepareClip(file) {
  const sound = await decode(file);
  if (READ_BY_SERVICE.test(file.name)) return { file, durationS: sound.duration };
  const wav = wavFile([toPcm16(mixDown(sound))], sound.sampleRate);
  return { file: new File([wav], file.name.replace(/(\.\w+)?$/, ".wav")), durationS: sound.duration };
}

/** @param {File} file */
async function decode(file) {
  const context = new OfflineAudioContext(1, 1, 48_000);
  try {
    return await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    const message = "It may be damaged, or of a kind that the browser does not know.";
    throw new ServiceError({ code: "UNREADABLE_FILE", message });
  }
}

/** @param {AudioBuffer} sound */
function mixDown(sound) {
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    for (const [i, sample] of sound.getChannelData(channel).entries()) {
      mono[i] = /** @type {number} */ (mono[i]) + sample / sound.numberOfChannels;
    }
  }
  return mono;
}

// @ts-check
/**
 * Samples as numbers, and as a WAV file.
 *
 * In: 16-bit PCM as on the wire, or floats from a microphone. Out: floats to play, WAV files. Does not know:
 * sockets, playback.
 *
 * Typed arrays have the byte order of the machine; every machine that runs a browser is little endian, as
 * the wire and WAV files are.
 */

/** Full scale of 16-bit PCM. A power of two, so that conversion to float32 and back is exact. */
export const FULL_SCALE = 32768;
const HEADER_BYTES = 44;

/**
 * @param {Int16Array} pcm
 * @returns {Float32Array<ArrayBuffer>} In −1…1.
 */
export function toFloats(pcm) {
  const floats = new Float32Array(pcm.length);
  for (let i = 0; i < pcm.length; i++) floats[i] = /** @type {number} */ (pcm[i]) / FULL_SCALE;
  return floats;
}

/**
 * @param {Float32Array} floats Clipped to −1…1.
 * @returns {Int16Array<ArrayBuffer>}
 */
export function toPcm16(floats) {
  const clipped = (/** @type {number} */ level) => Math.max(-FULL_SCALE, Math.min(FULL_SCALE - 1, level));
  return Int16Array.from(floats, (value) => clipped(Math.round(value * FULL_SCALE)));
}

/**
 * A mono, 16-bit WAV file.
 * @param {Int16Array<ArrayBuffer>[]} parts
 * @param {number} sampleRateHz
 */
export function wavFile(parts, sampleRateHz) {
  const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  return new Blob([wavHeader(bytes, sampleRateHz), ...parts], { type: "audio/wav" });
}

/**
 * @param {number} dataBytes
 * @param {number} sampleRateHz
 */
function wavHeader(dataBytes, sampleRateHz) {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES));
  const text = (/** @type {number} */ at, /** @type {string} */ word) =>
    [...word].forEach((char, i) => view.setUint8(at + i, char.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, HEADER_BYTES - 8 + dataBytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // length of the format description
  view.setUint16(20, 1, true); // plain PCM
  view.setUint16(22, 1, true); // mono
  view.setUint32(24, sampleRateHz, true);
  view.setUint32(28, sampleRateHz * 2, true); // bytes per second
  view.setUint16(32, 2, true); // bytes per sample of all channels
  view.setUint16(34, 16, true); // bits per sample
  text(36, "data");
  view.setUint32(40, dataBytes, true);
  return view.buffer;
}

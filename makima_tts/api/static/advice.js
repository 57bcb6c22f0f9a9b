// @ts-check
/**
 * A heading and advice for every error code.
 *
 * In: an error's code. Out: a heading and one piece of advice. Does not know: the origin of the error; the
 * service's message, which has the details, is shown between the two.
 *
 * @typedef {{heading: string, advice: string}} Words
 */

/** @type {Record<string, Words>} */
export const WORDS = {
  INVALID_MESSAGE: {
    heading: "The service did not understand this page",
    advice: "Reload the page. If that does not help, page and service are of different versions.",
  },
  INVALID_TEXT: {
    heading: "This text cannot be spoken",
    advice: "Change the text, or choose another language, and press Speak again.",
  },
  VOICE_NOT_FOUND: {
    heading: "This voice cannot be used",
    advice: "Choose another voice, or add one.",
  },
  MODEL_LOADING: {
    heading: "The model is still loading",
    advice: "Wait until the status says that it is ready, then try again.",
  },
  TTS_UNAVAILABLE: {
    heading: "The service cannot speak now",
    advice: "Try again in a minute. If you run the service, its log says why.",
  },
  SYNTHESIS_ERROR: {
    heading: "Speaking failed",
    advice: "Press Speak to try again; other texts are not affected.",
  },
  GPU_OUT_OF_MEMORY: {
    heading: "The graphics card ran out of memory",
    advice: "Press Speak to try again, or make the text shorter.",
  },
  TIMEOUT: {
    heading: "No sound came in time",
    advice: "Press Speak to try again; the service may be busy.",
  },
  RATE_LIMITED: {
    heading: "The service is busy",
    advice: "Wait a moment and press Speak again.",
  },
  UNAUTHORIZED: {
    heading: "The service asks for a token",
    advice: "This page has none; ask its operator.",
  },
  CANCELLED: {
    heading: "The service stopped this text",
    advice: "Press Speak to hear it from the beginning.",
  },
  CONNECTION_LOST: {
    heading: "The connection was lost while speaking",
    advice: "What had arrived is played to its end. Press Speak to hear all of it.",
  },
  FORBIDDEN: {
    heading: "That is not allowed",
    advice: "Voices that come with the service cannot be changed, and foreign pages may change nothing.",
  },
  CONFLICT: {
    heading: "There is a voice of this name already",
    advice: "Give yours another name.",
  },
  NOT_FOUND: {
    heading: "The service does not know that",
    advice: "Reload the page.",
  },
  UPGRADE_REQUIRED: {
    heading: "The WebSocket does not get through",
    advice: "A proxy before the service must pass the headers Upgrade and Connection.",
  },
  INVALID_AUDIO: {
    heading: "This recording cannot be used",
    advice: "Use 5 to 15 seconds of one person speaking clearly, without music or noise.",
  },
  PAYLOAD_TOO_LARGE: {
    heading: "This file is too large",
    advice: "Cut out 5 to 15 seconds and send only those.",
  },
  NO_MICROPHONE: {
    heading: "The microphone cannot be used",
    advice: "Allow it for this page in the browser's address bar, or choose a file instead.",
  },
  NO_SOUND: {
    heading: "This page cannot play sound",
    advice: "Look whether a loudspeaker is connected and other pages can be heard, then press Speak again.",
  },
  UNREADABLE_FILE: {
    heading: "This browser cannot read that file",
    advice: "Save it as WAV, FLAC, OGG or MP3 and choose that.",
  },
};

const UNKNOWN = {
  heading: "Something went wrong",
  advice: "Try again; reload the page if it happens twice.",
};

/** @param {string} code */
export const wordsFor = (code) => WORDS[code] ?? UNKNOWN;

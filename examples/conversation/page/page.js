// @ts-check
/**
 *  The page of the conversation: settings, status, transcript.
 *
 * In: user input, events of the conversation. Out: the page. Does not know: sound, the wire.
 *
 * @import {Observer} from "./conversation.js"
 */

import { SpeechClient } from "makima-tts-client";
import { BuiltIn, OpenAiCompatible } from "./answers.js";
import { Conversation } from "./conversation.js";

/**
 * @template {HTMLElement} E
 * @param {string} id
 * @param {new () => E} kind
 * @returns {E}
 */
function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`There is no ${kind.name} #${id}.`);
  return element;
}

const settings = byId("settings", HTMLFormElement);
const start = byId("start", HTMLButtonElement);
const stop = byId("stop", HTMLButtonElement);
const turns = byId("turns", HTMLOListElement);
/** @type {Map<string, HTMLLIElement>} */
const answers = new Map();
/** @type {Conversation | null} */
let conversation = null;

/**
 * @param {string} kind
 * @param {string} text
 */
function addTurn(kind, text) {
  const turn = document.createElement("li");
  turn.className = kind;
  turn.textContent = text;
  turns.append(turn);
  turn.scrollIntoView({ block: "nearest" });
  return turn;
}

/** @param {string} id */
function answer(id) {
  const turn = answers.get(id) ?? addTurn("answer", "");
  answers.set(id, turn);
  return turn;
}

/** @type {Observer} */
const observer = {
  sounding: (voice) => (byId("voice", HTMLMeterElement).value = voice),
  status: (status) => (byId("status", HTMLSpanElement).textContent = status),
  question: (said) => addTurn("mine", said),
  answer: (id, text) => (answer(id).textContent = text),
  failed: (message) => addTurn("failed", message),
  interrupted(id, textSpoken, textRemaining) {
    const unheard = document.createElement("del");
    unheard.textContent = textRemaining;
    const note = document.createElement("small");
    note.textContent = "You interrupted here; what is struck out was not heard.";
    answer(id).replaceChildren(textSpoken, unheard, note);
  },
};

function begin() {
  const chosen = Object.fromEntries(/** @type {Iterable<[string, string]>} */ (new FormData(settings)));
  const { service = "", voice, api = "", key = "", transcriber = "", writer = "" } = chosen;
  const client = new SpeechClient({ url: service, voice: voice || undefined });
  const answerer = api === "" ? new BuiltIn() : new OpenAiCompatible({ api, key, transcriber, writer });
  return new Conversation(client, answerer, observer);
}

/** @param {boolean} running */
function show(running) {
  start.hidden = running;
  stop.hidden = !running;
  for (const input of settings.querySelectorAll("input")) input.disabled = running;
}

settings.addEventListener("submit", async (event) => {
  event.preventDefault();
  conversation = begin();
  answers.clear();
  turns.replaceChildren();
  show(true);
  try {
    await conversation.start();
  } catch (failure) {
    end();
    observer.failed(/** @type {Error} */ (failure).message);
  }
});

function end() {
  conversation?.stop();
  conversation = null;
  show(false);
}

stop.addEventListener("click", end);
/** @type {HTMLInputElement} */ (settings.elements.namedItem("service")).value =
  new URLSearchParams(location.search).get("service") ?? `http://${location.hostname}:8001/api/v1/speak`;

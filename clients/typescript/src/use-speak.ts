/**
 *  A React hook for speech.
 *
 * In: the service's address; a component's calls. Out: the state of speech, to render. Does not
 * know: the wire, sound.
 */

import { useCallback, useEffect, useMemo, useState } from "react";
import {
  SpeechClient,
  type ClientOptions,
  type SpeakOptions,
  type Speech,
  type SpeechEvent,
  type Text,
} from "makima-tts-client";

/**
 * loading: connected, ready once the model is loaded, which may be at once; error: not connected, without an
 * automatic reconnect before `connect` or `speak`.
 */
export type SpeakStatus = "disconnected" | "connecting" | "loading" | "ready" | "speaking" | "error";

export interface UseSpeak {
  status: SpeakStatus;
  /** The last error message, for people; null after the next success. */
  error: string | null;
  /** Connects if needed. Call it in a key or click handler, as browsers require for sound. */
  speak: (text: Text, options?: SpeakOptions) => Speech;
  /** Silences everything at once, queued texts too. */
  cancel: () => void;
  connect: () => void;
  disconnect: () => void;
  isConnected: boolean;
  /** Audio is playing or queued. */
  isSpeaking: boolean;
  isModelLoading: boolean;
}

interface Standing {
  connection: "disconnected" | "connecting" | "loading" | "ready" | "error";
  isSpeaking: boolean;
  error: string | null;
}

const AT_FIRST: Standing = { connection: "disconnected", isSpeaking: false, error: null };

/** Connects only with `connect` or `speak`; unmounting closes the connection. */
export function useSpeak(options: ClientOptions): UseSpeak {
  const client = useClient(options);
  const [standing, setStanding] = useState(AT_FIRST);

  useEffect(() => {
    setStanding(AT_FIRST);
    const leave = client.subscribe((event) => {
      const { isSpeaking } = client;
      setStanding((before) => after(before, event, isSpeaking));
    });
    return () => {
      leave();
      client.close();
    };
  }, [client]);

  const speak = useCallback(
    (text: Text, options?: SpeakOptions) => {
      const speech = client.speak(text, options);
      setStanding((before) => ({ ...before, isSpeaking: true, error: null }));
      return speech;
    },
    [client],
  );
  const cancel = useCallback(() => client.cancel(), [client]);
  const connect = useCallback(() => void client.connect(), [client]);
  const disconnect = useCallback(() => client.close(), [client]);

  const { connection, isSpeaking, error } = standing;
  return {
    status: connection === "ready" && isSpeaking ? "speaking" : connection,
    error,
    speak,
    cancel,
    connect,
    disconnect,
    isConnected: connection === "ready",
    isSpeaking,
    isModelLoading: connection === "loading",
  };
}

/** One client while the options are equal, though they are a new object in every render. */
function useClient(options: ClientOptions): SpeechClient {
  const { WebSocket, ...plain } = options;
  return useMemo(() => new SpeechClient(options), [JSON.stringify(plain), WebSocket]);
}

/** The same object if nothing has changed, so that React does not render: most events are audio. */
function after(before: Standing, event: SpeechEvent, isSpeaking: boolean): Standing {
  const { connection, error } = { ...before, ...changed(event) };
  const same = before.connection === connection && before.error === error && before.isSpeaking === isSpeaking;
  return same ? before : { connection, error, isSpeaking };
}

function changed(event: SpeechEvent): Partial<Standing> {
  switch (event.type) {
    case "opened": // not `loading`, which a proxy may withhold
      return { connection: "loading" };
    case "state":
      return connectionChanged(event);
    case "error":
      return event.code === "CANCELLED" ? {} : { error: event.message };
    default:
      return {};
  }
}

function connectionChanged({ state, reason }: Extract<SpeechEvent, { type: "state" }>): Partial<Standing> {
  switch (state) {
    case "ready":
      return { connection: "ready", error: null };
    case "resting":
      return { connection: "disconnected" };
    case "lost":
      return { connection: "connecting", error: reason };
    case "refused":
      return { connection: "error", error: reason };
    case "connecting":
      return { connection: "connecting" };
  }
}

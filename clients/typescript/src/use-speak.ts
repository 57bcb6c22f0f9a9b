/**
 * Speaking as a React hook.
 *
 * In: the service's address; what a component asks for. Out: how speaking stands, as state to render. Does not
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
 * loading: the service has let us in, and is ready once its model is loaded, which may be at once; error: not connected, and it does not try again by
 * itself before `connect` or `speak`.
 */
export type SpeakStatus = "disconnected" | "connecting" | "loading" | "ready" | "speaking" | "error";

export interface UseSpeak {
  status: SpeakStatus;
  /** What went wrong last, in words for people; null once something has gone well again. */
  error: string | null;
  /** Connects first where that is needed. Call it on a key or a click: browsers start sound only then. */
  speak: (text: Text, options?: SpeakOptions) => Speech;
  /** Silences everything at once, queued texts too. */
  cancel: () => void;
  connect: () => void;
  disconnect: () => void;
  isConnected: boolean;
  /** Something is heard, or waits to be. */
  isSpeaking: boolean;
  isModelLoading: boolean;
}

interface Standing {
  connection: "disconnected" | "connecting" | "loading" | "ready" | "error";
  isSpeaking: boolean;
  error: string | null;
}

const AT_FIRST: Standing = { connection: "disconnected", isSpeaking: false, error: null };

/** Nothing is connected before `connect` or `speak`; a component that goes away takes its connection along. */
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

/** One client for as long as the options stay what they are, though they are a new object in every render. */
function useClient(options: ClientOptions): SpeechClient {
  const { WebSocket, ...plain } = options;
  return useMemo(() => new SpeechClient(options), [JSON.stringify(plain), WebSocket]);
}

/** The same object when nothing has changed, so that React draws nothing: most events are sound. */
function after(before: Standing, event: SpeechEvent, isSpeaking: boolean): Standing {
  const { connection, error } = { ...before, ...changed(event) };
  const same = before.connection === connection && before.error === error && before.isSpeaking === isSpeaking;
  return same ? before : { connection, error, isSpeaking };
}

function changed(event: SpeechEvent): Partial<Standing> {
  switch (event.type) {
    case "opened": // not `loading`, which a proxy may keep to itself
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

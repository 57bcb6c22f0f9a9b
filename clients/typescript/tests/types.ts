/** What the compiler lets through, and what it does not; never run. */

import { SpeechCancelled, SpeechClient, type Complete, type SpeechEvent } from "makima-tts-client";
import { useSpeak, type SpeakStatus } from "makima-tts-client/react";

const client = new SpeechClient({ url: new URL("https://tts.example/api/v1/speak"), voice: "makima" });
const complete: Promise<Complete> = client.speak("Hello.", { priority: "high", seed: 1 }).done;
client.speak(["Iterables", "too."]);
client.speak(new ReadableStream<string>());
client.subscribe((event: SpeechEvent) => {
  if (event.type === "error") console.log(event.code, event.retryAfterMs);
  // @ts-expect-error: only an error has a code
  console.log(event.code);
});
complete.catch((failure) => failure instanceof SpeechCancelled && failure.textSpoken.length);
const status: SpeakStatus = useSpeak({ url: "/api/v1/speak", language: "German" }).status;
console.log(status);

// @ts-expect-error: there is no client without an address
new SpeechClient({ voice: "makima" });
// @ts-expect-error: what plays needs 16 bits
new SpeechClient({ url: "ws://localhost", encoding: "pcm32f" });
// @ts-expect-error: a priority that there is not
client.speak("Hello.", { priority: "urgent" });

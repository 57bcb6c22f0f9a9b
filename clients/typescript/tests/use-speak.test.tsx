/** What a component meets; in strict mode, which mounts everything twice. */

import { act, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { useSpeak, type UseSpeak } from "makima-tts-client/react";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

let root: Root;
let hook: UseSpeak;
let renders: number;

function Probe({ url }: { url: string }) {
  hook = useSpeak({ url, play: false, WebSocket });
  renders += 1;
  return <p>{hook.status}</p>;
}

const render = (url: string): Promise<void> =>
  act(async () =>
    root.render(
      <StrictMode>
        <Probe url={url} />
      </StrictMode>,
    ),
  );

/** Lets events in until it is so. */
async function until(condition: () => boolean): Promise<void> {
  for (const start = Date.now(); !condition(); ) {
    expect(Date.now() - start, `it stands at ${JSON.stringify(hook)}`).toBeLessThan(15_000);
    await act(() => new Promise((resolve) => setTimeout(resolve, 5)));
  }
}

beforeEach(async () => {
  root = createRoot(document.createElement("div"));
  renders = 0;
  await render(inject("url"));
});
afterEach(() => act(async () => root.unmount()));

test("before anything is asked, nothing is connected", () => {
  expect(hook).toMatchObject({
    status: "disconnected",
    error: null,
    isConnected: false,
    isSpeaking: false,
    isModelLoading: false,
  });
});

test("connect and disconnect", async () => {
  await act(async () => hook.connect());
  expect(hook.status).toBe("connecting");
  await until(() => hook.isConnected);
  expect(hook.status).toBe("ready");
  await act(async () => hook.disconnect());
  expect(hook).toMatchObject({ status: "disconnected", isConnected: false });
});

test("speak connects, and speaks to the end, without a render for each chunk", async () => {
  const { speak } = hook;
  const speech = await act(async () => speak("Hello there."));
  expect(hook.isSpeaking).toBe(true);
  await until(() => !hook.isSpeaking);
  expect(hook.status).toBe("ready");
  expect((await speech.done).textLength).toBe(12);
  expect(renders).toBeLessThan(20);
  expect(hook.speak).toBe(speak);
});

test("cancel is silent at once", async () => {
  await act(async () => void hook.speak("{endless}"));
  await until(() => hook.status === "speaking");
  await act(async () => hook.cancel());
  expect(hook.isSpeaking).toBe(false);
  expect(hook.error).toBeNull();
});

test("an error is shown until something goes well", async () => {
  await act(async () => void hook.speak("Hello.", { voice: "nobody" }));
  await until(() => hook.error !== null);
  expect(hook.error).toContain("There is no voice nobody here");
  await act(async () => void hook.speak("Hello."));
  expect(hook.error).toBeNull();
});

test("a component that goes away takes its connection along", async () => {
  const speech = await act(async () => hook.speak("{stall}"));
  await until(() => hook.isConnected);
  await act(async () => root.unmount());
  await expect(speech.done).rejects.toMatchObject({ code: "CANCELLED" });
});

test("while the service loads its model, that is told", async () => {
  // No real service loads for as long as a test wants: this one lets clients in, and is not ready.
  const server = new WebSocketServer({ port: 0 });
  const { port } = server.address() as { port: number };
  await render(`ws://localhost:${port}`);
  await act(async () => hook.connect());
  await until(() => hook.isModelLoading);
  expect(hook).toMatchObject({ status: "loading", isConnected: false });
  for (const socket of server.clients) socket.send('{"type":"ready"}');
  await until(() => hook.isConnected);
  expect(hook.isModelLoading).toBe(false);
  server.close();
});

test("another address is another connection", async () => {
  await act(async () => hook.connect());
  await until(() => hook.isConnected);
  await render(`${inject("url")}?again`);
  expect(hook.status).toBe("disconnected");
});

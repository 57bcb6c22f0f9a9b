/**
 * The real service, in a process of its own, with the engine that plays scripts.
 *
 * In: a port. Out: where it listens. Does not know: what is tested.
 */

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const PYTHON = process.env.MAKIMA_TTS_PYTHON ?? join(import.meta.dirname, "../../../.venv/bin/python");

export class Service {
  readonly url: string;
  readonly port: number;
  readonly #process: ChildProcess;
  readonly #folder: string;

  private constructor(process: ChildProcess, folder: string, origin: string) {
    this.#process = process;
    this.#folder = folder;
    this.url = `${origin}/api/v1/speak`;
    this.port = Number(new URL(origin).port);
  }

  static async start(port = 0): Promise<Service> {
    const folder = mkdtempSync(join(tmpdir(), "makima-tts-"));
    const log = join(folder, "log");
    const env = {
      ...process.env,
      TTS_ENGINE: "scripted",
      TTS_VOICES_DIR: join(folder, "voices"),
      TTS_CACHE_DIR: join(folder, "cache"),
      // No test is to wait until a long text would have been heard.
      TTS_MAX_AHEAD_S: "600",
    };
    const child = spawn(PYTHON, ["-m", "makima_tts", "serve", "--port", String(port)], {
      env,
      stdio: ["ignore", "pipe", openSync(log, "w")],
    });
    for await (const line of createInterface(child.stdout!)) {
      const origin = /http:\/\/\S+:\d+/.exec(line)?.[0];
      if (origin !== undefined) return new Service(child, folder, origin);
    }
    throw new Error(`The service ended before it listened:\n${readFileSync(log, "utf8")}`);
  }

  /** Without a word to its clients, as if the machine had lost its power. */
  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await once(this.#process, "exit");
    rmSync(this.#folder, { recursive: true });
  }
}

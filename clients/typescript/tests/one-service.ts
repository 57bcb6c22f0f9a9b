/** One service for all tests that leave nothing behind; they find it with `inject("url")`. */

import type { TestProject } from "vitest/node";
import { Service } from "./service.js";

declare module "vitest" {
  interface ProvidedContext {
    url: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const service = await Service.start();
  project.provide("url", service.url);
  return () => service.kill();
}

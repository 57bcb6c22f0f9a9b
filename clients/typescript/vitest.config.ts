import { join } from "node:path";
import { defineConfig } from "vitest/config";

// A test that hangs fails; one on a busy machine does not.
const testTimeout = 20_000;
const OLDER = join(import.meta.dirname, "tests/react-18/node_modules");

// The hook is tested with each React that it says it works with.
const hookWith = (name: string, alias: Record<string, string>) => ({
  resolve: { alias },
  test: { name, include: ["tests/use-speak.test.tsx"], environment: "happy-dom", testTimeout },
});

export default defineConfig({
  test: {
    globalSetup: "tests/one-service.ts",
    projects: [
      { test: { name: "client", include: ["tests/*.test.ts"], testTimeout } },
      hookWith("React 19", {}),
      hookWith("React 18", { react: join(OLDER, "react"), "react-dom": join(OLDER, "react-dom") }),
    ],
  },
});

import { defineConfig } from "vite";

export default defineConfig({
  // Relative URLs, so that it works at any path.
  base: "./",
  // A worklet is loaded by its URL, so it must not be inlined.
  build: { assetsInlineLimit: 0, chunkSizeWarningLimit: 6000 },
  // The client is outside this folder.
  server: { fs: { allow: ["../../.."] } },
});

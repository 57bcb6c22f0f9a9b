import { defineConfig } from "vite";

export default defineConfig({
  // Wherever it is put, it finds its files.
  base: "./",
  // A worklet is loaded by its address; one that was inlined has none.
  build: { assetsInlineLimit: 0, chunkSizeWarningLimit: 6000 },
  // The client lies beside this folder, not in it.
  server: { fs: { allow: ["../../.."] } },
});

/** What there is on the audio thread; TypeScript's own libraries know the page's thread only. */

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}

declare function registerProcessor(
  name: string,
  processor: new (options: { processorOptions: any }) => AudioWorkletProcessor,
): void;

declare const sampleRate: number;

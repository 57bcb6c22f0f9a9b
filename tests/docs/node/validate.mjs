// In: an AsyncAPI document on standard input. Out: what AsyncAPI's own parser finds wrong with it, as JSON.
// Does not know: which document it is.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const faults = diagnostics.filter(({ severity }) => severity < 2);
console.log(JSON.stringify({ valid: document !== undefined, faults: faults.map(({ message, path }) => ({ message, path })) }));

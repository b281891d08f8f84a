// PostgreSQL's own raw parser, as WASM (libpg-query). Guarantees: `parse` never throws; a statement that breaks the
// instance (its stack overflows) costs that statement alone, the instance is thrown away and a spare takes over; what a
// large statement made the instance's memory grow to is given back. Does not guarantee that the server's own grammar,
// of another major version, reads the text the same way.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import v8 from 'node:v8';

interface Instance {
  _malloc(bytes: number): number;
  _free(pointer: number): void;
  _wasm_parse_query_raw(query: number): number;
  _wasm_free_parse_result(result: number): void;
  _wasm_scan(query: number): number;
  _wasm_free_string(text: number): void;
  getValue(pointer: number, type: 'i32'): number;
  UTF8ToString(pointer: number): string;
  stringToUTF8(text: string, pointer: number, bytes: number): void;
  HEAPU8: Uint8Array;
}

interface WasmInstance {
  exports: object;
}
/** The part of the WebAssembly API that is used; Node has it as a global, the configured type libraries do not. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => WasmInstance;
};

type Factory = (options: {
  instantiateWasm(imports: object, done: (instance: WasmInstance) => void): object;
}) => Promise<Instance>;

export type ParseOutcome =
  | { kind: 'Parsed'; statements: readonly unknown[] }
  /** `offset`: characters before the error. */
  | { kind: 'Failed'; reason: string; offset?: number };

/** A token of SQL; offsets in bytes of UTF-8. */
export interface Token {
  start: number;
  end: number;
  text: string;
  /** As the scanner calls it: `SCONST`, `IDENT`, `C_COMMENT` … */
  tokenName: string;
}

/** A parse of more text than this may have made the instance large: it is replaced. */
const RETIRE_BYTES = 128 * 1024;

let create: (() => Promise<Instance>) | undefined;
let current: Instance | undefined;
let spare: Instance | undefined;
let making: Promise<void> | undefined;
let loading: Promise<void> | undefined;

/** Loads the parser; once a process, before the first `parse`. Rejects if the module cannot be read. */
export function loadParser(): Promise<void> {
  loading ??= load();
  return loading;
}

async function load(): Promise<void> {
  const require = createRequire(import.meta.url);
  const script = require.resolve('libpg-query/wasm/libpg-query.js');
  const factory = require(script) as Factory;
  // Optimising the module takes 550 MiB for some seconds after the first parses, which no limit on the process allows
  // for; without, a parse takes a quarter longer.
  for (const flag of ['--no-wasm-tier-up', '--no-wasm-dynamic-tiering']) v8.setFlagsFromString(flag);
  const module = new WebAssembly.Module(fs.readFileSync(script.replace(/\.js$/, '.wasm')));
  create = () =>
    factory({
      instantiateWasm(imports, done) {
        const instance = new WebAssembly.Instance(module, imports);
        done(instance);
        return instance.exports;
      },
    });
  current = await create();
  spare = await create();
}

/** Makes a spare in the background, a few milliseconds' work; without one `parse` answers Failed until it is there. */
function replenish(): void {
  if (making !== undefined || create === undefined || spare !== undefined) return;
  making = create()
    .then((instance) => {
      if (current === undefined) current = instance;
      else spare = instance;
    })
    .catch(() => undefined)
    .finally(() => {
      making = undefined;
      if (current === undefined) replenish();
    });
}

function replace(): void {
  current = spare;
  spare = undefined;
  replenish();
}

/** `bytes`: length of the text in UTF-8. The text holds no NUL and no lone surrogate: the caller checked. */
export function parse(text: string, bytes: number): ParseOutcome {
  const instance = current;
  if (instance === undefined) {
    replenish();
    return { kind: 'Failed', reason: 'the parser is starting again; send the statement again' };
  }
  let json: string;
  try {
    const query = instance._malloc(bytes + 1);
    if (query === 0) {
      replace();
      return { kind: 'Failed', reason: 'the statement is too large to parse' };
    }
    instance.stringToUTF8(text, query, bytes + 1);
    const result = instance._wasm_parse_query_raw(query);
    if (result === 0) {
      replace();
      return { kind: 'Failed', reason: 'the statement is too large to parse' };
    }
    // struct PgQueryParseResult { char *parse_tree; char *stderr_buffer; PgQueryError *error; }
    const error = instance.getValue(result + 8, 'i32');
    if (error !== 0) {
      const message = instance.getValue(error, 'i32');
      const position = instance.getValue(error + 16, 'i32');
      const reason = message === 0 ? 'syntax error' : instance.UTF8ToString(message);
      instance._wasm_free_parse_result(result);
      instance._free(query);
      return position > 0 ? { kind: 'Failed', reason, offset: position - 1 } : { kind: 'Failed', reason };
    }
    json = instance.UTF8ToString(instance.getValue(result, 'i32'));
    instance._wasm_free_parse_result(result);
    instance._free(query);
  } catch (error) {
    // RangeError: the stack; RuntimeError: a trap. Either leaves the instance's own stack and heap in an unknown state.
    replace();
    return {
      kind: 'Failed',
      reason: error instanceof RangeError ? 'the statement is nested too deeply' : 'the parser failed',
    };
  }
  if (bytes > RETIRE_BYTES && spare !== undefined) replace();
  try {
    const tree = JSON.parse(json) as { stmts?: unknown };
    return { kind: 'Parsed', statements: Array.isArray(tree.stmts) ? (tree.stmts as unknown[]) : [] };
  } catch {
    return { kind: 'Failed', reason: 'the parse tree could not be read' };
  }
}

/** The tokens of a text, comments included; undefined where the scanner cannot read it, or is starting again. */
export function scan(text: string): readonly Token[] | undefined {
  const instance = current;
  if (instance === undefined || text.includes('\0') || !text.isWellFormed()) {
    if (instance === undefined) replenish();
    return undefined;
  }
  const bytes = Buffer.byteLength(text);
  let json: string;
  try {
    const query = instance._malloc(bytes + 1);
    if (query === 0) {
      replace();
      return undefined;
    }
    instance.stringToUTF8(text, query, bytes + 1);
    const result = instance._wasm_scan(query);
    json = result === 0 ? '' : instance.UTF8ToString(result);
    if (result !== 0) instance._wasm_free_string(result);
    instance._free(query);
  } catch {
    replace();
    return undefined;
  }
  if (bytes > RETIRE_BYTES && spare !== undefined) replace();
  try {
    // An error comes as its message.
    return (JSON.parse(json) as { tokens: Token[] }).tokens;
  } catch {
    return undefined;
  }
}

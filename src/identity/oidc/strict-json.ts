// JSON (RFC 8259) of which there is one reading. Guarantees: a repeated member, anything after the value, bytes that are
// not UTF-8, a byte order mark, half a surrogate pair, and nesting or size beyond the bounds are refused, so that no two
// readers of one token see two things. Objects have no prototype: a member named `__proto__` is a member like any other.
// Does not judge what the members mean. Never throws.

export type JsonValue = string | number | boolean | null | JsonValue[] | JsonObject;
export interface JsonObject {
  [member: string]: JsonValue;
}

export type JsonFault = 'TooLarge' | 'NotUtf8' | 'TooDeep' | 'RepeatedMember' | 'NotJson';
export type JsonReading = { kind: 'Good'; value: JsonValue } | { kind: 'Bad'; fault: JsonFault };

export interface JsonBounds {
  /** Bytes of the whole text. */
  bytes: number;
  /** Objects and arrays within each other; default 16. */
  depth?: number;
}

const DEEPEST = 16;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;

/** Reads exactly one value. */
export function readStrictJson(bytes: Uint8Array, bounds: JsonBounds): JsonReading {
  if (bytes.length > bounds.bytes) return { kind: 'Bad', fault: 'TooLarge' };
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    return { kind: 'Bad', fault: 'NotUtf8' };
  }
  const reader = new Reader(text, bounds.depth ?? DEEPEST);
  try {
    const value = reader.value(0);
    reader.end();
    return { kind: 'Good', value };
  } catch (error) {
    if (error instanceof Refusal) return { kind: 'Bad', fault: error.fault };
    throw error;
  }
}

/** The object that the bytes are; undefined where they are anything else, and why does not matter. */
export function readStrictObject(bytes: Uint8Array, bounds: JsonBounds): JsonObject | undefined {
  const reading = readStrictJson(bytes, bounds);
  return reading.kind === 'Good' && isJsonObject(reading.value) ? reading.value : undefined;
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

class Refusal extends Error {
  readonly fault: JsonFault;
  constructor(fault: JsonFault) {
    super(fault);
    this.fault = fault;
  }
}

class Reader {
  readonly #text: string;
  readonly #depth: number;
  #at = 0;

  constructor(text: string, depth: number) {
    this.#text = text;
    this.#depth = depth;
  }

  value(depth: number): JsonValue {
    this.#match(SPACE);
    const value = this.#bare(depth);
    this.#match(SPACE);
    return value;
  }

  end(): void {
    if (this.#at !== this.#text.length) throw new Refusal('NotJson');
  }

  #bare(depth: number): JsonValue {
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth + 1);
      case '[':
        return this.#array(depth + 1);
      case '"':
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      default:
        return this.#number();
    }
  }

  #object(depth: number): JsonObject {
    if (depth > this.#depth) throw new Refusal('TooDeep');
    this.#at += 1;
    const members = Object.create(null) as JsonObject;
    this.#match(SPACE);
    if (this.#takes('}')) return members;
    for (;;) {
      this.#match(SPACE);
      const name = this.#string();
      // Compared as read: "\u0061" is "a" once more.
      if (name in members) throw new Refusal('RepeatedMember');
      this.#match(SPACE);
      if (!this.#takes(':')) throw new Refusal('NotJson');
      members[name] = this.value(depth);
      if (this.#takes('}')) return members;
      if (!this.#takes(',')) throw new Refusal('NotJson');
    }
  }

  #array(depth: number): JsonValue[] {
    if (depth > this.#depth) throw new Refusal('TooDeep');
    this.#at += 1;
    const items: JsonValue[] = [];
    this.#match(SPACE);
    if (this.#takes(']')) return items;
    for (;;) {
      items.push(this.value(depth));
      if (this.#takes(']')) return items;
      if (!this.#takes(',')) throw new Refusal('NotJson');
    }
  }

  #string(): string {
    const start = this.#at;
    const end = stringEnd(this.#text, start);
    if (end === undefined) throw new Refusal('NotJson');
    this.#at = end;
    const literal = this.#text.slice(start, end);
    const value = JSON.parse(literal) as string;
    if (!value.isWellFormed()) throw new Refusal('NotUtf8');
    return value;
  }

  #number(): number {
    const literal = this.#match(NUMBER);
    const value = Number(literal);
    // 1e999 would be Infinity, which is later than any time.
    if (literal === '' || !Number.isFinite(value)) throw new Refusal('NotJson');
    return value;
  }

  #word<T extends JsonValue>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw new Refusal('NotJson');
    this.#at += word.length;
    return value;
  }

  #takes(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += found.length;
    return found;
  }
}

/** Index after the string literal that begins at `start`. */
function stringEnd(text: string, start: number): number | undefined {
  STRING.lastIndex = start;
  const found = STRING.exec(text)?.[0];
  return found === undefined ? undefined : start + found.length;
}

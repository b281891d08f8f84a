// SSH's data types (RFC 4251, 5): what all messages, keys and certificates are made of.
//
// Guarantees: a reader never reads past its buffer, and says where it would have; nothing is copied but what `string`
// is asked to copy; a writer's result is a buffer of its own.

/** The bytes are not what they should be. The message may go to the peer: it holds none of the bytes. */
export class MalformedData extends Error {
  override name = 'MalformedData';
}

export interface Reader {
  readonly offset: number;
  readonly left: number;
  byte(): number;
  /** 0 is false, anything else true (RFC 4251, 5). */
  boolean(): boolean;
  uint32(): number;
  uint64(): bigint;
  /** A view into the buffer, not a copy. */
  string(): Buffer;
  /** As `string`, at most so many bytes. Strict UTF-8: throws on anything else. */
  text(most?: number): string;
  /** US-ASCII names, comma separated; an empty list has none. Throws on empty names and on bytes that are no name's (RFC 4251, 5 and 6). */
  nameList(): string[];
  /** The two's complement bytes, minimal form checked; negative numbers are refused. */
  mpint(): Buffer;
  /** So many bytes, as a view. */
  bytes(count: number): Buffer;
  /** All that is left, as a view. */
  rest(): Buffer;
  /** Throws where something is left. */
  end(): void;
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const LONGEST_LIST = 16 * 1024;

export function readData(data: Buffer, start = 0): Reader {
  let at = start;
  const take = (count: number): number => {
    if (count > data.length - at)
      throw new MalformedData(`${count} bytes wanted at ${at}, ${data.length - at} are there`);
    const from = at;
    at += count;
    return from;
  };
  const string = (): Buffer => {
    const length = data.readUInt32BE(take(4));
    const from = take(length);
    return data.subarray(from, from + length);
  };
  return {
    get offset() {
      return at;
    },
    get left() {
      return data.length - at;
    },
    byte: () => data[take(1)]!,
    boolean: () => data[take(1)] !== 0,
    uint32: () => data.readUInt32BE(take(4)),
    uint64: () => data.readBigUInt64BE(take(8)),
    string,
    text(most = 64 * 1024) {
      const bytes = string();
      if (bytes.length > most) throw new MalformedData(`a text of ${bytes.length} bytes, ${most} at most`);
      try {
        return UTF8.decode(bytes);
      } catch {
        throw new MalformedData('a text is not UTF-8');
      }
    },
    nameList() {
      const bytes = string();
      if (bytes.length === 0) return [];
      if (bytes.length > LONGEST_LIST) throw new MalformedData('a list of names is too long');
      for (const byte of bytes)
        if (byte <= 0x20 || byte >= 0x7f) throw new MalformedData('a name has a byte that no name may have');
      const names = bytes.toString('latin1').split(',');
      if (names.includes('')) throw new MalformedData('a list has an empty name');
      return names;
    },
    mpint() {
      const bytes = string();
      if (bytes.length === 0) return bytes;
      if (bytes[0]! >= 0x80) throw new MalformedData('a negative number');
      if (bytes[0] === 0 && (bytes.length === 1 || bytes[1]! < 0x80))
        throw new MalformedData('a number with a needless zero');
      return bytes[0] === 0 ? bytes.subarray(1) : bytes;
    },
    bytes(count) {
      const from = take(count);
      return data.subarray(from, from + count);
    },
    rest() {
      const from = at;
      at = data.length;
      return data.subarray(from);
    },
    end() {
      if (at !== data.length) throw new MalformedData(`${data.length - at} bytes too many`);
    },
  };
}

/** One field of a message, in the form of RFC 4251, 5. */
export type Field =
  | { byte: number }
  | { boolean: boolean }
  | { uint32: number }
  | { uint64: bigint }
  /** Text is written as UTF-8. */
  | { string: Buffer | string }
  | { names: readonly string[] }
  /** Unsigned, big endian, of any length. */
  | { mpint: Buffer }
  /** As they are, without a length. */
  | { raw: Buffer };

export function writeData(...fields: readonly Field[]): Buffer {
  const parts: Buffer[] = [];
  for (const field of fields) {
    if ('byte' in field) parts.push(Buffer.from([field.byte]));
    else if ('boolean' in field) parts.push(Buffer.from([field.boolean ? 1 : 0]));
    else if ('uint32' in field) parts.push(uint32(field.uint32));
    else if ('uint64' in field) {
      const bytes = Buffer.allocUnsafe(8);
      bytes.writeBigUInt64BE(field.uint64);
      parts.push(bytes);
    } else if ('string' in field)
      pushString(parts, Buffer.isBuffer(field.string) ? field.string : Buffer.from(field.string));
    else if ('names' in field) pushString(parts, Buffer.from(field.names.join(','), 'latin1'));
    else if ('mpint' in field) pushString(parts, minimal(field.mpint));
    else parts.push(field.raw);
  }
  return Buffer.concat(parts);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function pushString(parts: Buffer[], bytes: Buffer): void {
  parts.push(uint32(bytes.length), bytes);
}

/** Two's complement of an unsigned number, in as few bytes as it needs. */
function minimal(number: Buffer): Buffer {
  let from = 0;
  while (from < number.length && number[from] === 0) from += 1;
  const bytes = number.subarray(from);
  return bytes.length > 0 && bytes[0]! >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes;
}

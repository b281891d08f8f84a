// The startup packet: what a client may ask for before it has proven anything. Pure.
// Parameters and `options` are SETs, so they are an allow-list; identity never comes from here (`user` names nobody).
// Source: PostgreSQL manual, "Start-up" and "Message Formats"; postmaster's pg_split_opts for `options`.
import { type NativeError, NOT_SUPPORTED, PROTOCOL_VIOLATION } from '../errors.ts';
import { BodyReader, WireError } from '../wire/messages.ts';

/** MAX_STARTUP_PACKET_LENGTH of the server, length field included. */
export const LONGEST_STARTUP = 10000;

export const PROTOCOL_3_0 = 196608;
export const PROTOCOL_3_2 = 196610;

export interface Startup {
  /** Minor version the session will speak: 0 or 2. */
  minor: 0 | 2;
  /** Answer with NegotiateProtocolVersion first. */
  negotiate: { minor: number; unknown: readonly string[] } | undefined;
  user: string;
  database: string | undefined;
  applicationName: string | undefined;
  /** To be sent on to the server. Names in PostgreSQL's usual spelling. */
  settings: Readonly<Record<string, string>>;
}

export type StartupPacket =
  | { kind: 'SslRequest' }
  | { kind: 'GssRequest' }
  /** Process id and secret together. */
  | { kind: 'Cancel'; key: Buffer }
  | { kind: 'Startup'; startup: Startup }
  | { kind: 'Refused'; error: NativeError };

/** Settings a client may choose at login: they change how results look or how long things may take, not what is allowed. */
const ALLOWED_SETTINGS = new Map(
  [
    'client_encoding',
    'DateStyle',
    'TimeZone',
    'IntervalStyle',
    'extra_float_digits',
    'bytea_output',
    'lc_messages',
    'lc_monetary',
    'lc_numeric',
    'lc_time',
    'geqo',
    'jit',
    'statement_timeout',
    'lock_timeout',
    'idle_in_transaction_session_timeout',
    'idle_session_timeout',
    'transaction_timeout',
    'default_transaction_isolation',
    'default_transaction_read_only',
    'default_transaction_deferrable',
    'client_min_messages',
    'work_mem',
    'application_name',
  ].map((name) => [name.toLowerCase(), name]),
);

// In these encodings a byte below 0x80 may be the second half of a character, so that a quote is not always a quote.
const CLIENT_ONLY_ENCODINGS = new Set([
  'sjis',
  'mskanji',
  'shiftjis',
  'win932',
  'windows932',
  'shiftjis2004',
  'sjis2004',
  'big5',
  'win950',
  'windows950',
  'gbk',
  'win936',
  'windows936',
  'uhc',
  'win949',
  'windows949',
  'gb18030',
  'johab',
]);

/** Whether the encoding exists for clients only; PostgreSQL ignores case and punctuation in its names. */
export function isClientOnlyEncoding(name: string): boolean {
  return CLIENT_ONLY_ENCODINGS.has(name.toLowerCase().replaceAll(/[^a-z0-9]/g, ''));
}

/** Judges a packet's body: everything after its length. */
export function readStartup(body: Buffer): StartupPacket {
  try {
    return decode(body);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return refuse(PROTOCOL_VIOLATION, `invalid startup packet: ${error.message}`);
  }
}

function decode(body: Buffer): StartupPacket {
  const reader = new BodyReader(body, 0, body.length);
  const code = reader.int32();
  if (code === 80877103) {
    reader.done();
    return { kind: 'SslRequest' };
  }
  if (code === 80877104) {
    reader.done();
    return { kind: 'GssRequest' };
  }
  if (code === 80877102) {
    // Process id and 4 bytes in protocol 3.0, up to 256 in 3.2.
    if (reader.left < 8 || reader.left > 260) throw new WireError('cancel request of a wrong size');
    return { kind: 'Cancel', key: Buffer.from(reader.bytes(reader.left)) };
  }
  const major = code >>> 16;
  const minor = code & 0xffff;
  if (major !== 3) {
    return refuse(NOT_SUPPORTED, `unsupported frontend protocol ${major}.${minor}: Sallyport speaks 3.0 and 3.2`);
  }
  return decodeParameters(reader, minor);
}

function decodeParameters(reader: BodyReader, requestedMinor: number): StartupPacket {
  const raw = new Map<string, string>();
  for (;;) {
    const name = text(reader.cstringBytes());
    if (name === '') break;
    const value = text(reader.cstringBytes());
    if (raw.has(name)) throw new WireError(`parameter "${printable(name)}" is given twice`);
    raw.set(name, value);
  }
  reader.done();

  const unknown = [...raw.keys()].filter((name) => name.startsWith('_pq_.'));
  const minor = requestedMinor >= 2 ? 2 : 0;
  const negotiate = requestedMinor !== minor || unknown.length > 0 ? { minor, unknown } : undefined;

  const user = raw.get('user');
  if (user === undefined || user === '') return refuse('28000', 'no PostgreSQL user name specified in startup packet');
  const replication = raw.get('replication');
  if (replication !== undefined && !['', 'false', 'off', 'no', '0'].includes(replication.toLowerCase())) {
    return refuse(NOT_SUPPORTED, 'Sallyport does not pass replication connections');
  }
  const settings: Record<string, string> = {};
  let applicationName: string | undefined;
  const take = (name: string, value: string): NativeError | undefined => {
    const known = ALLOWED_SETTINGS.get(name.toLowerCase());
    if (known === undefined) {
      if (
        name.toLowerCase() === 'standard_conforming_strings' &&
        ['on', 'true', '1', 'yes'].includes(value.toLowerCase())
      ) {
        return undefined;
      }
      return {
        code: '42501',
        message: `Sallyport does not accept the startup parameter "${printable(name)}"`,
        hint: 'Leave it out of the connection settings (PGOPTIONS, options, currentSchema …); use SET after login, which the policy judges.',
      };
    }
    if (known === 'client_encoding' && isClientOnlyEncoding(value)) {
      return {
        code: NOT_SUPPORTED,
        message: `Sallyport does not support the client encoding "${printable(value)}"`,
        hint: 'Use UTF8.',
      };
    }
    if (known === 'application_name') applicationName = value;
    else settings[known] = value;
    return undefined;
  };
  for (const [name, value] of raw) {
    if (name === 'user' || name === 'database' || name === 'replication' || name.startsWith('_pq_.')) continue;
    const pairs: [string, string][] | undefined = name === 'options' ? splitOptions(value) : [[name, value]];
    if (pairs === undefined) {
      return refuse(
        '42501',
        'Sallyport accepts only -c name=value and --name=value in the startup parameter "options"',
      );
    }
    for (const [setting, text] of pairs) {
      const error = take(setting, text);
      if (error !== undefined) return { kind: 'Refused', error };
    }
  }
  const database = raw.get('database');
  return {
    kind: 'Startup',
    startup: {
      minor,
      negotiate,
      user,
      database: database === '' ? undefined : database,
      applicationName: applicationName === '' ? undefined : applicationName,
      settings,
    },
  };
}

/** `-c a=b --c-d=e`: white space separates, a backslash escapes. undefined: something else is in it. */
export function splitOptions(options: string): [string, string][] | undefined {
  const words: string[] = [];
  let word = '';
  let inside = false;
  for (let i = 0; i < options.length; i += 1) {
    const char = options[i]!;
    if (char === '\\' && i + 1 < options.length) {
      word += options[i + 1]!;
      i += 1;
      inside = true;
    } else if (/\s/.test(char)) {
      if (inside) words.push(word);
      word = '';
      inside = false;
    } else {
      word += char;
      inside = true;
    }
  }
  if (inside) words.push(word);
  const pairs: [string, string][] = [];
  for (let i = 0; i < words.length; i += 1) {
    let setting: string;
    const current = words[i]!;
    if (current === '-c') {
      i += 1;
      if (i >= words.length) return undefined;
      setting = words[i]!;
    } else if (current.startsWith('--')) setting = current.slice(2);
    else if (current.startsWith('-c')) setting = current.slice(2);
    else return undefined;
    const equals = setting.indexOf('=');
    if (equals < 1) return undefined;
    pairs.push([setting.slice(0, equals).replaceAll('-', '_'), setting.slice(equals + 1)]);
  }
  return pairs;
}

function text(bytes: Buffer): string {
  const value = bytes.toString('utf8');
  if (value.includes('\ufffd')) throw new WireError('a parameter is not UTF-8');
  return value;
}

function printable(name: string): string {
  return name.slice(0, 64).replaceAll(/[^\x20-\x7e]/g, '?');
}

function refuse(code: string, message: string): StartupPacket {
  return { kind: 'Refused', error: { code, message } };
}

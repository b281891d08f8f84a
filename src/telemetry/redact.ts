// Makes a value fit for a log: no secrets by name or by look, bounded in size, harmless on a terminal.
//
// Guarantees: members whose name says that they are secret, and texts that look like tickets, tokens, private keys,
// SCRAM verifiers or URLs with a password, are replaced; control, bidi and line-separator characters never get out raw.
// Does not guarantee to know a password by its looks alone: callers do not log what may hold one.

export const REDACTED = '[redacted]';

const LONGEST_TEXT = 2048;
const MOST_MEMBERS = 64;
const DEEPEST = 6;

const SECRET_NAME =
  /pass(word|wd|phrase|code)?$|passw|secret|token|ticket|authorization|credential|cookie|private|^key$|apikey|dsn$|connectionstring|proof|verifier|saltedpassword/i;

const SECRET_TEXT: readonly RegExp[] = [
  /eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g, // compact JWS: tickets, OIDC tokens
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g,
  /SCRAM-SHA-(1|256|512)\$[0-9]+:[^\s"']+/gi,
  /\bmd5[0-9a-f]{32}\b/gi,
  /\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}/gi,
  /\b(password|passwd|pwd|secret|token)\s*[=:]\s*('[^']*'|"[^"]*"|[^\s,;&'")\]}]+)/gi,
];
// The name before the password is kept: it helps and is no secret.
const URL_PASSWORD = /([a-z][a-z0-9+.-]{1,32}:\/\/[^\s:/@]{0,256}):[^\s@/]{1,1024}@/gi;

/** Hides what looks like a secret within a text. */
export function redactText(text: string): string {
  let clean = text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}… (${text.length} characters)` : text;
  for (const pattern of SECRET_TEXT) clean = clean.replace(pattern, REDACTED);
  return clean.replace(URL_PASSWORD, `$1:${REDACTED}@`);
}

/** A copy of any value that `JSON.stringify` takes and that holds no secret. Never throws. */
export function redact(value: unknown, depth = 0, path: readonly object[] = []): unknown {
  switch (typeof value) {
    case 'string':
      return redactText(value);
    case 'number':
      return Number.isFinite(value) ? value : String(value);
    case 'boolean':
    case 'undefined':
      return value;
    case 'bigint':
      return String(value);
    case 'symbol':
    case 'function':
      return `[${typeof value}]`;
    default:
      return value === null ? null : redactObject(value as object, depth, path);
  }
}

function redactObject(value: object, depth: number, path: readonly object[]): unknown {
  if (path.includes(value)) return '[circular]';
  if (depth >= DEEPEST) return '[deep]';
  const below = [...path, value];
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
  if (value instanceof Error) return redactError(value, depth, below);
  if (Array.isArray(value)) {
    const kept = value.slice(0, MOST_MEMBERS).map((item) => redact(item, depth + 1, below));
    return value.length > MOST_MEMBERS ? [...kept, `… (${value.length} items)`] : kept;
  }
  const entries = value instanceof Map ? [...value.entries()] : Object.entries(value);
  const copy: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const [name, member] of entries.slice(0, MOST_MEMBERS)) {
    const text = String(name).slice(0, 128);
    copy[text] =
      SECRET_NAME.test(text) && member !== undefined && member !== null ? REDACTED : redact(member, depth + 1, below);
  }
  return copy;
}

/** Name, message, code and cause; no stack, whose first line repeats the message, and no member that a library hung on it. */
function redactError(error: Error, depth: number, path: readonly object[]): unknown {
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {};
  const cause = error.cause === undefined ? {} : { cause: redact(error.cause, depth + 1, path) };
  return { name: error.name, message: redactText(String(error.message)), ...code, ...cause };
}

/** JSON whose text is safe to print: what JSON leaves raw but terminals and editors act on is escaped. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

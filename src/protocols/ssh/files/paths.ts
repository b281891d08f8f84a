// Paths of a POSIX-like target, as bytes: one latin1 character is one byte.
//
// Guarantees: a lexical form is absolute and has no `.`, `..`, empty component or NUL. It says what the client spelled,
// never where links lead: that only the target knows.

/** PATH_MAX of Linux, which every name below it fits in. */
export const LONGEST_PATH = 4096;

/** Undefined: it may be used. Otherwise what is wrong with it. */
export function problemOfPath(path: string): string | undefined {
  if (path.includes('\0')) return 'a path holds a NUL byte';
  if (path.length > LONGEST_PATH) return `a path is longer than ${LONGEST_PATH} bytes`;
  return undefined;
}

/** What POSIX would make of it without any links. */
export function lexicalForm(directory: string, path: string): string {
  const parts: string[] = [];
  for (const part of absolute(directory, path).split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return `/${parts.join('/')}`;
}

/** As spelled, from the root. */
export function absolute(directory: string, path: string): string {
  return path.startsWith('/') ? path : join(directory, path);
}

export function join(directory: string, name: string): string {
  return directory.endsWith('/') ? directory + name : `${directory}/${name}`;
}

/**
 * The directory and the name in it, for operations that act on a name and not on where it leads. Undefined where there
 * is no such name: the root, `.`, `..`.
 */
export function splitName(path: string): { directory: string; name: string } | undefined {
  let end = path.length;
  while (end > 0 && path[end - 1] === '/') end -= 1;
  const trimmed = path.slice(0, end);
  const slash = trimmed.lastIndexOf('/');
  const name = trimmed.slice(slash + 1);
  if (name === '' || name === '.' || name === '..') return undefined;
  return { directory: slash < 0 ? '.' : slash === 0 ? '/' : trimmed.slice(0, slash), name };
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
// Controls, C1, bidi marks and what else draws nothing: a path must not draw on a terminal or hide in a record.
const UNSHOWN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}"\\]/gu;

/** For people: in quotes, whatever does not print escaped. */
export function shownPath(path: string): string {
  const bytes = Buffer.from(path, 'latin1');
  try {
    const text = UTF8.decode(bytes).replace(UNSHOWN, (character) =>
      character === '"' || character === '\\' ? `\\${character}` : `\\u{${character.codePointAt(0)!.toString(16)}}`,
    );
    return `"${text}"`;
  } catch {
    return `"${path.replace(/[^\x20-\x7e]|["\\]/g, (byte) =>
      byte === '"' || byte === '\\' ? `\\${byte}` : `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`,
    )}"`;
  }
}

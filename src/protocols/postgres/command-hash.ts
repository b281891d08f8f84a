// What consent is given to: SHA-256 over a statement's text, parameters, database and account. Pure; the same value is
// computed by whoever requests a grant with statements approved beforehand.
import { canonicalJson, sha256Hex } from '../../api/canonical.ts';

export interface HashedCommand {
  /** As sent. White space and `--` lines before it, white space and semicolons after it do not count. */
  text: string;
  /** Values as sent: text as it is, binary as `\x` and hex; null is NULL. */
  parameters: readonly (string | null)[];
  database: string;
  /** The Connection's name for the account. */
  account: string;
}

/** 64 hex digits. */
export function commandHash(command: HashedCommand): string {
  const { text, parameters, database, account } = command;
  return sha256Hex(canonicalJson({ text: bareStatement(text), parameters: [...parameters], database, account }));
}

/**
 * A statement without what clients add and leave out as they like: psql sends the semicolon and drops the comment lines
 * before, drivers send what they are given. Only what the server's lexer skips anyway is taken off; comments inside and
 * block comments stay.
 */
export function bareStatement(text: string): string {
  const start = /^(?:[ \t\n\r\f\v]|--[^\n\r]*(?:[\n\r]|$))*/.exec(text)![0].length;
  let end = text.length;
  while (end > start && ' \t\n\r\f\v;'.includes(text[end - 1]!)) end -= 1;
  return text.slice(start, end);
}

// One byte form for one value, so that a hash or signature means the same to everybody: RFC 8785 for the JSON that
// resources hold (strings, integers, booleans, null, arrays, objects).
import { hash } from 'node:crypto';

/** Canonical JSON: members sorted by UTF-16 code units, no white space, undefined members left out. Throws TypeError on what JSON can not hold. */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError('canonical JSON holds finite numbers only');
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object') {
    let text = '';
    // The order of `sort` without an argument is that of UTF-16 code units.
    for (const key of Object.keys(value).sort()) {
      const member = (value as Record<string, unknown>)[key];
      if (member !== undefined) text += `${text === '' ? '' : ','}${JSON.stringify(key)}:${canonicalJson(member)}`;
    }
    return `{${text}}`;
  }
  throw new TypeError(`canonical JSON holds no ${typeof value}`);
}

export function sha256Hex(data: string | Uint8Array): string {
  return hash('sha256', data);
}

/**
 * SHA-256 of a spec as its author and its approvers see it: without the stamp that admission adds.
 * Approvals bind to it, so any other change of the spec voids them.
 */
export function specHash(spec: object): string {
  const { requester: _requester, approver: _approver, author: _author, ...rest } = spec as Record<string, unknown>;
  return sha256Hex(canonicalJson(rest));
}

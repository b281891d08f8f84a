// Tells tokens from tickets and passwords, cheaply. Guarantees: a ticket is never taken for a token; whatever has a
// token's header, well-formed or not, is one, and is then tried as nothing else. Proves nothing. Never throws.
import { TICKET_HEADER } from '../tickets.ts';
import { TOKEN_BYTES } from './token-text.ts';

/** Whether a secret is a token (signed or encrypted), by its header alone. */
export function looksLikeToken(secret: string): boolean {
  const dot = secret.indexOf('.');
  if (dot <= 0 || dot > TOKEN_BYTES) return false;
  const header = secret.slice(0, dot);
  if (!/^[A-Za-z0-9_-]+$/.test(header)) return false;
  const text = Buffer.from(header, 'base64url').toString('latin1');
  return /^\s*\{/.test(text) && text.includes('"alg"') && text !== TICKET_HEADER;
}

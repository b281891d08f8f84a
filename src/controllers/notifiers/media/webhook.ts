// Signed posts in the form of the Standard Webhooks specification 1.0: headers webhook-id, webhook-timestamp (seconds),
// webhook-signature over `id.timestamp.body`: `v1,` HMAC-SHA256 with a shared secret, or `v1a,` Ed25519 with a key of this
// notifier alone. The id stays the same over retries, so a receiver that remembers ids acts once; the timestamp is that of
// the attempt. A receiver compares in constant time and refuses what is older than five minutes.
import { createHmac, createPrivateKey, createPublicKey, hkdfSync, type KeyObject, sign } from 'node:crypto';
import type { NotifierSpec } from '../../../api/notifier.ts';
import type { Https } from '../https.ts';
import { type Message, textOf } from '../message.ts';
import type { SecretData } from '../secrets.ts';
import { failureOf, hostsOf, type Medium, SecretUnfit } from './medium.ts';

const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex');

/**
 * The notifier's own key, derived from the operator's: a message to one receiver can not be passed off on another, and
 * nothing needs to be kept. `operatorKey` is an Ed25519 private key.
 */
export function webhookKey(operatorKey: KeyObject, notifierUid: string): { privateKey: KeyObject; publicKey: string } {
  const seed = operatorKey.export({ type: 'pkcs8', format: 'der' }).subarray(-32);
  const own = Buffer.from(hkdfSync('sha256', seed, 'sallyport', `webhook ${notifierUid}`, 32));
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_ED25519, own]), format: 'der', type: 'pkcs8' });
  const raw = createPublicKey(privateKey).export({ type: 'spki', format: 'der' }).subarray(-32);
  return { privateKey, publicKey: `whpk_${raw.toString('base64')}` };
}

/** Value of webhook-signature. `key`: a shared secret's bytes, or an Ed25519 private key. */
export function webhookSignature(id: string, seconds: number, body: string, key: Buffer | KeyObject): string {
  const signed = Buffer.from(`${id}.${seconds}.${body}`);
  return Buffer.isBuffer(key)
    ? `v1,${createHmac('sha256', key).update(signed).digest('base64')}`
    : `v1a,${sign(null, signed, key).toString('base64')}`;
}

/** Bytes of a `whsec_…` secret; undefined where it is none, or shorter than the 24 bytes that the specification wants. */
export function sharedSecret(text: string): Buffer | undefined {
  const encoded = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text.trim())?.[1];
  const bytes = encoded === undefined ? undefined : Buffer.from(encoded, 'base64');
  return bytes !== undefined && bytes.length >= 24 && bytes.length <= 64 ? bytes : undefined;
}

type Template = { kind: 'Good'; fill(message: Message): string } | { kind: 'Bad'; reason: string };

/** A template is JSON whose texts are filled in after it was parsed: no fact can add a member or end a text. */
export function readTemplate(template: string | undefined): Template {
  if (template === undefined) return { kind: 'Good', fill: (message) => JSON.stringify(standardBody(message)) };
  let parsed: unknown;
  try {
    parsed = JSON.parse(template) as unknown;
  } catch (error) {
    return { kind: 'Bad', reason: `spec.webhook.template is no JSON: ${(error as Error).message}` };
  }
  const unknown = [...template.matchAll(/\$\(([^()]*)\)/g)]
    .map((match) => match[1]!.trim())
    .find((name) => !/^(event|title|text|link|command|id|at|namespace|kind|name|facts\.[A-Za-z]{1,32})$/.test(name));
  if (unknown !== undefined) return { kind: 'Bad', reason: `spec.webhook.template: $(${unknown}) is nothing known` };
  return { kind: 'Good', fill: (message) => JSON.stringify(filled(parsed, message)) };
}

function filled(value: unknown, message: Message): unknown {
  if (typeof value === 'string')
    return value.replace(/\$\(([^()]*)\)/g, (_whole, name: string) => valueOf(name.trim(), message));
  if (Array.isArray(value)) return value.map((each) => filled(each, message));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, filled(member, message)]));
  return value;
}

function valueOf(name: string, message: Message): string {
  if (name === 'text') return textOf(message);
  if (name.startsWith('facts.')) {
    const fact = name.slice(6);
    return Object.hasOwn(message.facts, fact) ? message.facts[fact]! : '';
  }
  return message[name as 'event' | 'title' | 'link' | 'command' | 'id' | 'at' | 'namespace' | 'kind' | 'name'] ?? '';
}

/** `type` and `timestamp` as the specification wants them. */
export function standardBody(message: Message): Record<string, unknown> {
  const { id, event, at, namespace, kind, name, uid, title, facts, link, command } = message;
  return {
    type: event,
    timestamp: at,
    data: {
      id,
      object: { kind, namespace, name, uid },
      title,
      facts,
      ...(link === undefined ? {} : { link }),
      ...(command === undefined ? {} : { command }),
    },
  };
}

export function webhookMedium(options: {
  spec: NonNullable<NotifierSpec['webhook']>;
  caBundle: string | undefined;
  fill(message: Message): string;
  ownKey: KeyObject;
  secretName: string;
  readSecret(): Promise<SecretData>;
  https: Https;
  now(): number;
}): Medium {
  const { spec, https, now } = options;
  const url = new URL(spec.url);
  return {
    async deliver(message, _maybeSent, signal) {
      let key: Buffer | KeyObject = options.ownKey;
      // A signature gives nothing away, so without a Secret there is nothing to keep from a host.
      let hosts: readonly string[] = [url.hostname.replace(/^\[(.*)\]$/, '$1')];
      if (spec.secretRef !== undefined) {
        const secret = await options.readSecret();
        const shared = sharedSecret(secret['secret'] ?? '');
        if (shared === undefined)
          throw new SecretUnfit(
            `Key "secret" of Secret ${options.secretName} is not "whsec_" and 24 to 64 bytes in base64.`,
          );
        key = shared;
        hosts = hostsOf(secret, url, options.secretName);
      }
      const body = options.fill(message);
      const seconds = Math.floor(now() / 1000);
      const answer = await https(
        {
          method: 'POST',
          url,
          headers: {
            'content-type': 'application/json',
            'webhook-id': message.id,
            'webhook-timestamp': String(seconds),
            'webhook-signature': webhookSignature(message.id, seconds, body, key),
          },
          body,
          hosts,
          caBundle: options.caBundle,
        },
        signal,
      );
      if (answer.kind === 'Answer' && answer.status >= 200 && answer.status < 300) return { kind: 'Taken' };
      return failureOf(answer, url.host, now());
    },
  };
}

import assert from 'node:assert/strict';
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { test } from 'node:test';
import { ScramError, type ScramExchange, ScramKeyCache, startScram } from './scram.ts';

const hmac = (key: Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();

/** The server's half of RFC 5802, written from the RFC. Returns whether the client's proof was good, and the final message. */
function serverSide(
  exchange: ScramExchange,
  password: string,
  first: string,
  clientFinal: string,
): { good: boolean; final: string } {
  const clientFirstBare = exchange.first.toString().replace(/^(?:[ny]|p=[^,]*),,/, '');
  const salt = Buffer.from(/s=([^,]*)/.exec(first)![1]!, 'base64');
  const iterations = Number(/i=(\d+)/.exec(first)![1]);
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256');
  const withoutProof = clientFinal.replace(/,p=.*$/, '');
  const proof = Buffer.from(/,p=(.*)$/.exec(clientFinal)![1]!, 'base64');
  const message = `${clientFirstBare},${first},${withoutProof}`;
  const storedKey = createHash('sha256').update(hmac(salted, 'Client Key')).digest();
  const signature = hmac(storedKey, message);
  const clientKey = Buffer.from(proof.map((byte, i) => byte ^ signature[i]!));
  const good = createHash('sha256').update(clientKey).digest().equals(storedKey);
  return { good, final: `v=${hmac(hmac(salted, 'Server Key'), message).toString('base64')}` };
}

const begin = (password = 'pencil'): { exchange: ScramExchange; nonce: string } => {
  const exchange = startScram(password, { endPoint: undefined, couldBind: true }, new ScramKeyCache());
  return { exchange, nonce: /r=(.*)$/.exec(exchange.first.toString())![1]! };
};

test('a server that knows the password is believed, and believes us', async () => {
  const { exchange, nonce } = begin();
  assert.equal(exchange.mechanism, 'SCRAM-SHA-256');
  assert.match(exchange.first.toString(), /^y,,n=,r=/);
  const first = `r=${nonce}server,s=${Buffer.from('salt').toString('base64')},i=4096`;
  const { good, final } = serverSide(exchange, 'pencil', first, (await exchange.respond(first)).toString());
  assert.equal(good, true);
  exchange.verify(final);
});

test('a server without the password is found out', async () => {
  const { exchange, nonce } = begin();
  const first = `r=${nonce}server,s=c2FsdA==,i=4096`;
  const { final } = serverSide(exchange, 'another', first, (await exchange.respond(first)).toString());
  assert.throws(() => exchange.verify(final), ScramError);
  assert.throws(() => exchange.verify('v='), ScramError);
  assert.throws(() => exchange.verify('e=other-error'), ScramError);
});

test('INV-11: nonces that are not ours, silly iteration counts and malformed messages are refused', async () => {
  for (const make of [
    (nonce: string) => `r=x${nonce},s=c2FsdA==,i=4096`,
    (nonce: string) => `r=${nonce},s=c2FsdA==,i=4096`,
    (nonce: string) => `r=${nonce}s,s=c2FsdA==,i=1`,
    (nonce: string) => `r=${nonce}s,s=c2FsdA==,i=2000000000`,
    (nonce: string) => `m=x,r=${nonce}s,s=c2FsdA==,i=4096`,
    () => '',
  ]) {
    const { exchange, nonce } = begin();
    await assert.rejects(exchange.respond(make(nonce)), ScramError);
  }
});

test('with a certificate the exchange is bound to it', async () => {
  const endPoint = createHash('sha256').update('certificate').digest();
  const exchange = startScram('pencil', { endPoint, couldBind: false }, new ScramKeyCache());
  assert.equal(exchange.mechanism, 'SCRAM-SHA-256-PLUS');
  const nonce = /r=(.*)$/.exec(exchange.first.toString())![1]!;
  const final = (await exchange.respond(`r=${nonce}s,s=c2FsdA==,i=4096`)).toString();
  const bound = Buffer.from(/^c=([^,]*)/.exec(final)![1]!, 'base64');
  assert.equal(bound.toString('latin1'), `p=tls-server-end-point,,${endPoint.toString('latin1')}`);
});

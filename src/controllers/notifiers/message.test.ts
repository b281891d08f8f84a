import assert from 'node:assert/strict';
import { createHmac, createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../../../test/support/any-text.ts';
import { slackBody } from './media/slack.ts';
import { readTemplate, sharedSecret, webhookKey, webhookSignature } from './media/webhook.ts';
import { type Message, messageId, messageOf, plain, textOf } from './message.ts';
import type { Occurrence } from './occurrences.ts';

const occurrence = (facts: Record<string, string>): Occurrence => ({
  event: 'GrantRequested',
  uid: 'u1',
  kind: 'AccessGrant',
  namespace: 'payments',
  name: 'orders-db-x',
  atMs: Date.parse('2026-03-01T12:00:00Z'),
  connection: 'orders-db',
  policies: ['team'],
  superseded: false,
  facts,
});
const told = (facts: Record<string, string>, portalUrl?: string): Message =>
  messageOf(occurrence(facts), { uid: 'n1', portalUrl }, 'kubectl access');

test('a text of a person stays one line, and turns nothing around', () => {
  fc.assert(
    fc.property(anyText({ maxLength: 800 }), (text) => {
      const shown = plain(text);
      assert.doesNotMatch(shown, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      assert.ok(Array.from(shown).length <= 500);
    }),
    { numRuns: 300 },
  );
  assert.equal(plain('a\nApproved by: dana\u202e\u0000 b\u200b'), 'a Approved by: dana b');
});

test('a reason can mention nobody in a channel and draws no link', () => {
  const body = slackBody(told({ requester: 'alice', reason: '<!channel> <https://evil.example|Approve> & *b*' }));
  const text = String(body['text']);
  assert.doesNotMatch(text, /<[!@#h]/);
  assert.match(text, /&lt;!channel&gt;/);
  const types = Array.from(JSON.stringify(body['blocks']).matchAll(/"type":"([a-z_]+)"/g), ([, type]) => type);
  assert.ok(types.length > 3 && !types.includes('mrkdwn'));
});

test('a message decides nothing: what can be pressed is one link, to the page', () => {
  const body = slackBody(told({ requester: 'alice' }, 'https://access.example/'));
  const buttons = JSON.stringify(body['blocks']).match(/"type":"button"/g) ?? [];
  assert.equal(buttons.length, 1);
  assert.match(JSON.stringify(body), /"url":"https:\/\/access\.example\/grants\/payments\/orders-db-x"/);
  assert.match(textOf(told({ requester: 'alice' })), /kubectl access approve orders-db-x -n payments$/);
});

test('ids are the same however often, and another for every notifier, object and event', () => {
  const ids = ['a', 'b'].flatMap((notifier) =>
    ['x', 'y'].flatMap((uid) =>
      (['GrantRequested', 'GrantEnded'] as const).map((event) => messageId(notifier, { uid, event })),
    ),
  );
  assert.equal(new Set(ids).size, 8);
  assert.equal(messageId('a', { uid: 'x', event: 'GrantEnded' }), messageId('a', { uid: 'x', event: 'GrantEnded' }));
});

test('no fact can leave its place in a template', () => {
  const template = readTemplate('{"a": "$(facts.reason)", "b": ["$(event) of $(name)"], "c": 1}');
  assert.equal(template.kind, 'Good');
  if (template.kind !== 'Good') return;
  fc.assert(
    fc.property(anyText(), (reason) => {
      const body = JSON.parse(template.fill(told({ reason }))) as Record<string, unknown>;
      assert.deepEqual(Object.keys(body), ['a', 'b', 'c']);
      assert.equal(body['a'], plain(reason));
    }),
    { numRuns: 200 },
  );
  // What a fact says is not filled in again.
  assert.equal(JSON.parse(template.fill(told({ reason: '$(id)' })))['a'], '$(id)');
  assert.equal(JSON.parse(readTemplateFill('{"a": "$(facts.constructor)"}'))['a'], '');
  for (const bad of ['{', '{"a": "$(token)"}', '{"a": "$(facts.__proto__)"}'])
    assert.equal(readTemplate(bad).kind, 'Bad', bad);
});
const readTemplateFill = (template: string): string => {
  const read = readTemplate(template);
  return read.kind === 'Good' ? read.fill(told({})) : '{}';
};

test('signatures verify as the specification says', () => {
  // The example of the Standard Webhooks reference implementations.
  const key = sharedSecret('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
  assert.ok(key !== undefined);
  assert.equal(
    webhookSignature('msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232314}', key),
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  );
  assert.equal(
    createHmac('sha256', key).update('msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}').digest('base64'),
    'g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  );
  for (const bad of ['', 'secret', 'whsec_', 'whsec_c2hvcnQ=', 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']) {
    assert.equal(sharedSecret(bad), undefined, bad);
  }
  const { privateKey } = generateKeyPairSync('ed25519');
  const [one, two] = [webhookKey(privateKey, 'uid-1'), webhookKey(privateKey, 'uid-2')];
  assert.notEqual(one.publicKey, two.publicKey);
  assert.equal(one.publicKey, webhookKey(privateKey, 'uid-1').publicKey);
  const signature = Buffer.from(webhookSignature('msg_1', 5, '{}', one.privateKey).slice(4), 'base64');
  const publicKey = createPublicKey({
    key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(one.publicKey.slice(5), 'base64')]),
    format: 'der',
    type: 'spki',
  });
  assert.ok(verify(null, Buffer.from('msg_1.5.{}'), publicKey, signature));
  assert.ok(!verify(null, Buffer.from('msg_1.6.{}'), publicKey, signature));
});

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { systemClock } from '../../system/clock.ts';
import { systemRandom } from '../../system/random.ts';
import { makeAuthorityKeys } from '../pki/authority.ts';
import { type BundlePlan, hasOthers, planBundle, type WebhookConfiguration } from './ca-bundle.ts';

const sources = { clock: systemClock, random: systemRandom };
const authority = async (): Promise<string> => (await makeAuthorityKeys('CA', sources)).cert;
let own: string;
let other: string;
let third: string;
before(async () => {
  [own, other, third] = (await Promise.all([authority(), authority(), authority()])) as [string, string, string];
});

const configuration = (bundle: string | undefined, namespace = 'sallyport-system'): WebhookConfiguration => ({
  metadata: { name: 'sallyport', resourceVersion: '7' },
  webhooks: [
    {
      name: 'stamp.sallyport.dev',
      clientConfig: {
        service: { name: 'sallyport-webhook', namespace },
        ...(bundle === undefined ? {} : { caBundle: Buffer.from(bundle).toString('base64') }),
      },
    },
  ],
});
const plan = (bundle: string | undefined, keepOthers = true, nowMs = Date.now()): BundlePlan =>
  planBundle(configuration(bundle), { caPem: own, namespace: 'sallyport-system', keepOthers, nowMs });
const wanted = (made: BundlePlan): string[] => {
  assert.equal(made.kind, 'Patch');
  const value = made.kind === 'Patch' ? made.patch.at(-1)!.value : '';
  return (
    Buffer.from(String(value), 'base64')
      .toString()
      .match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----\n/g) ?? []
  );
};
const text = (pem: string): string => `${pem.trim()}\n`;

test('the own authority is put there, once, on exactly what was seen', () => {
  const made = plan(undefined);
  assert.deepEqual(made.kind === 'Patch' && made.patch.slice(0, 2), [
    { op: 'test', path: '/metadata/resourceVersion', value: '7' },
    { op: 'test', path: '/webhooks/0/name', value: 'stamp.sallyport.dev' },
  ]);
  assert.deepEqual(wanted(made), [text(own)]);
  assert.equal(plan(own).kind, 'Fits');
  assert.equal(plan(own.replaceAll('\n', '\r\n')).kind, 'Fits');
});

test('another authority stays while a rollout may go on, in whichever order, and goes afterwards', () => {
  assert.deepEqual(wanted(plan(other)), [text(own), text(other)]);
  assert.equal(plan(own + other).kind, 'Fits');
  assert.equal(plan(other + own).kind, 'Fits');
  assert.deepEqual(wanted(plan(other + own, false)), [text(own)]);
  assert.ok(hasOthers(configuration(own + other), own));
  assert.ok(!hasOthers(configuration(own), own));
  assert.ok(!hasOthers(configuration(undefined), own));
});

test('what is too many, over, repeated or no certificate does not stay', () => {
  assert.deepEqual(wanted(plan(other + third)), [text(own), text(other)]);
  assert.deepEqual(wanted(plan(own + other, true, Date.now() + 20 * 365 * 86_400_000)), [text(own)]);
  assert.deepEqual(wanted(plan(own + own)), [text(own)]);
  assert.deepEqual(wanted(plan('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n')), [text(own)]);
  assert.deepEqual(wanted(plan('rubbish')), [text(own)]);
});

test('a configuration that leads elsewhere is left alone', () => {
  const options = { caPem: own, namespace: 'sallyport-system', keepOthers: true, nowMs: Date.now() };
  const made = planBundle(configuration(undefined, 'other'), options);
  assert.equal(made.kind, 'Foreign');
  assert.equal(planBundle({ metadata: { name: 'sallyport' } }, options).kind, 'Foreign');
});

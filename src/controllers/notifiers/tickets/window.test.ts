// A planned window under a ticket, with the controllers over a real store, a clock that is moved by hand, and a small
// server that behaves as the product does.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { testCertificates } from '../../../../test/support/certificates.ts';
import { type JiraDouble, startJira } from '../../../../test/support/jira.ts';
import { alice, connection, dana, phase, policy, type World, world } from '../../test-operator.ts';

const HOUR_MS = 3_600_000;

async function scene(context: TestContext): Promise<{ at: World; jira: JiraDouble }> {
  const certificates = await testCertificates();
  const jira = await startJira(certificates);
  context.after(() => jira.stop());
  jira.issues.set('OPS-1', {
    key: 'OPS-1',
    status: { id: '10002', name: 'Approved' },
    history: [],
    comments: [],
  });
  const notifier = `---
apiVersion: sallyport.dev/v1alpha1
kind: ClusterNotifier
metadata: {name: jira}
spec:
  type: Jira
  jira: {url: '${jira.url}', secretRef: {name: jira}}
  events: [SignOffDue]
  caBundle: ${JSON.stringify(certificates.ca)}
`;
  const ticket = "  ticket: {notifier: {name: jira}, pattern: '^OPS-[0-9]+$', states: ['10002']}\n  rules:";
  const yaml =
    connection('payments') + policy('payments', 'team', 'dev', 'dba').replace('  rules:', () => ticket) + notifier;
  const at = await world(context, yaml, (key) => ({
    clusterNamespace: 'sallyport-system',
    readSecret: () => async () => ({ username: jira.username, token: jira.token, 'sallyport-hosts': 'localhost' }),
    dial: () => (to) =>
      new Promise((resolve, reject) => {
        const socket = connect(to.port, '127.0.0.1', () => resolve(socket));
        socket.once('error', reject);
      }),
    key,
  }));
  return { at, jira };
}

async function planned(at: World) {
  const notBefore = new Date(at.clock.now() + HOUR_MS).toISOString();
  const grant = await at.grant(alice, { ticket: 'OPS-1', notBefore, duration: '1h' });
  await at.vote(dana, grant, 'Approve');
  at.clock.advance(100);
  await at.settle();
  assert.ok((await at.see(grant)).status?.expiresAt !== undefined, JSON.stringify((await at.see(grant)).status));
  return grant;
}

const pass = async (at: World, ms: number): Promise<void> => {
  for (let passed = 0; passed < ms; passed += 10_000) {
    at.clock.advance(10_000);
    await at.settle();
  }
};

test('INV-04: a planned window begins only once its ticket was read for it, whatever was read before', async (context) => {
  const { at, jira } = await scene(context);
  const grant = await planned(at);
  jira.outage({ kind: 'Answer', reply: { status: 503 } });
  await pass(at, HOUR_MS + 60_000);
  assert.equal(await phase(at, grant), 'Active');
  assert.deepEqual(at.published(), [], 'nothing is given while the ticket can not be read');
  const active = (await at.see(grant)).status?.conditions?.find(({ type }) => type === 'Active');
  assert.match(JSON.stringify(active), /ticket has not been read for its start/);
  await at.restart();
  assert.deepEqual(at.published(), []);
  jira.outage(undefined);
  await pass(at, 120_000);
  assert.deepEqual(
    at.published().map(({ uid }) => uid),
    [grant.metadata.uid],
  );
  // What was read counts over a restart, though the system is away.
  jira.outage({ kind: 'Reset' });
  await at.restart();
  assert.equal(at.published().length, 1);
});

test('a ticket that turned bad takes its window away, before and after it was to begin', async (context) => {
  const { at, jira } = await scene(context);
  const grant = await planned(at);
  jira.issues.get('OPS-1')!.status = { id: '1', name: 'Closed' };
  await pass(at, HOUR_MS - 30_000);
  assert.equal(await phase(at, grant), 'Denied');
  assert.match((await at.see(grant)).status?.message ?? '', /state Closed/);
  assert.deepEqual(at.published(), []);
  jira.issues.get('OPS-1')!.status = { id: '10002', name: 'Approved' };
  const late = await planned(at);
  jira.outage({ kind: 'Reset' });
  await pass(at, HOUR_MS + 60_000);
  jira.issues.get('OPS-1')!.status = { id: '1', name: 'Closed' };
  jira.outage(undefined);
  await pass(at, 120_000);
  assert.equal(await phase(at, late), 'Revoked');
  assert.deepEqual(at.published(), []);
});

test('a good ticket is read once more, and the window begins in time', async (context) => {
  const { at } = await scene(context);
  const grant = await planned(at);
  assert.deepEqual(at.published(), []);
  await pass(at, HOUR_MS + 10_000);
  assert.equal(await phase(at, grant), 'Active');
  assert.equal(at.published().length, 1);
});

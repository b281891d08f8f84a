// Notifiers and tickets of a running local daemon, over small servers that behave as the products' documented APIs.
import assert from 'node:assert/strict';
import { createHmac, createPublicKey, verify } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { AccessApproval, AccessGrant } from '../../src/api/grant.ts';
import type { AnyNotifier } from '../../src/api/notifier.ts';
import { type Client, createClient } from '../../src/cli/client.ts';
import { until } from '../support/in-process.ts';
import { type Local, startLocal } from '../support/local.ts';
import { type NotifyServers, notifyFiles, startNotifyServers } from '../support/notify-scene.ts';

const SECRETS = /SECRET[A-Z]+|whsec_|xoxb/;
const carl = { account: '2'.repeat(32), state: 'approved', userName: 'carl', email: 'carl@corp.example', name: 'Carl' };

describe('notices and tickets', () => {
  let servers: NotifyServers;
  let local: Local;
  let client: Client;
  const alice = (group: string) => ({ as: 'alice@corp.example', groups: group.split(',') });

  before(async () => {
    servers = await startNotifyServers();
    local = await startLocal(notifyFiles(servers));
    client = createClient(local.state, 'sallyport');
  });
  after(async () => {
    await local?.stop();
    await servers?.stop();
  });

  const request = async (group: string, ...args: string[]): Promise<string> => {
    const answer = await local.cli(['request', 'orders-db', '-n', 'payments', '--for', '1h', ...args], alice(group));
    const name = /Grant (orders-db-[a-z0-9]+)/.exec(answer.output)?.[1];
    assert.ok(name !== undefined, answer.output);
    return name;
  };
  const grant = async (name: string): Promise<AccessGrant> =>
    (await client.get<AccessGrant>('AccessGrant', 'payments', name))!;
  const phase = (name: string, wanted: string) =>
    until(
      `${name} to be ${wanted}`,
      async () => {
        const seen = await grant(name);
        return seen.status?.phase === wanted ? seen : undefined;
      },
      30_000,
    );
  const votesOf = async (name: string): Promise<AccessApproval[]> => {
    const { uid } = (await grant(name)).metadata;
    return (await client.list<AccessApproval>('AccessApproval', 'payments')).filter(
      ({ spec }) => spec.targetRef.uid === uid,
    );
  };
  const told = (name: string): { event: string; id: string }[] =>
    servers.shared.calls.flatMap(({ body, headers }) => {
      const parsed = JSON.parse(body) as { type: string; data: { object: { name: string } } };
      return parsed.data.object.name === name ? [{ event: parsed.type, id: String(headers['webhook-id']) }] : [];
    });
  const notifier = async (kind: 'Notifier' | 'ClusterNotifier', name: string): Promise<AnyNotifier> =>
    (await client.list<AnyNotifier>(kind, undefined)).find(({ metadata }) => metadata.name === name)!;

  test('a request and its end are told once each, signed so that the receiver can verify', async () => {
    const name = await request('plain', '--reason', 'look <!channel>');
    await until('the message', () => told(name).length === 1 || undefined);
    const call = servers.shared.calls.find(({ body }) => body.includes(name))!;
    const [id, at, given] = ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((each) =>
      String(call.headers[each]),
    );
    const key = Buffer.from(servers.shared.secret.slice(6), 'base64');
    assert.equal(given, `v1,${createHmac('sha256', key).update(`${id}.${at}.${call.body}`).digest('base64')}`);
    const chat = await until('the chat', () => servers.slack.messages.find(({ text }) => text.includes(name)));
    assert.match(chat.text, /look &lt;!channel&gt;/);
    const own = await until('the own key', async () => (await notifier('Notifier', 'team')).status?.publicKey);
    const open = await until('the webhook of the namespace', () =>
      servers.open.calls.find(({ body }) => body.includes('look <!channel>')),
    );
    const publicKey = createPublicKey({
      key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(own.slice(5), 'base64')]),
      format: 'der',
      type: 'spki',
    });
    const signed = Buffer.from(
      `${String(open.headers['webhook-id'])}.${String(open.headers['webhook-timestamp'])}.${open.body}`,
    );
    assert.ok(
      verify(null, signed, publicKey, Buffer.from(String(open.headers['webhook-signature']).slice(4), 'base64')),
    );
    const denied = await local.cli(['deny', name, '-n', 'payments', '--reason', 'no', '--yes'], {
      as: 'dana',
      groups: ['dba'],
    });
    assert.equal(denied.code, 0, denied.output);
    await until('the end', () => told(name).length === 2 || undefined);
    assert.deepEqual(
      told(name).map(({ event }) => event),
      ['GrantRequested', 'GrantDenied'],
    );
  });

  test('while receivers are away, nothing waits for them; what was told before a crash is not told again', async () => {
    servers.shared.outage({ kind: 'Reset' });
    servers.slack.outage({ kind: 'Answer', reply: { status: 503 } });
    const name = await request('plain,oncall', '--break-glass', '--reason', 'INC-1');
    const open = await request('plain', '--reason', 'later');
    await phase(name, 'Active');
    const status = await until('the trouble', async () => {
      const seen = (await notifier('ClusterNotifier', 'events')).status?.conditions?.find(
        ({ type }) => type === 'Ready',
      );
      return seen?.status === 'False' ? seen : undefined;
    });
    assert.match(status.message, /wait and are tried again/);
    await local.kill();
    servers.shared.outage(undefined);
    servers.slack.outage(undefined);
    await local.start();
    await until('the messages', () => (told(name).length > 0 && told(open).length > 0) || undefined, 30_000);
    await until('the chat', () => servers.slack.messages.find(({ text }) => text.includes(open)));
    assert.deepEqual([...new Set(told(name).map(({ event }) => event))], ['BreakGlass']);
    const ready = await until('Ready', async () => {
      const seen = (await notifier('ClusterNotifier', 'events')).status?.conditions?.find(
        ({ type }) => type === 'Ready',
      );
      return seen?.status === 'True' ? seen : undefined;
    });
    assert.equal(ready.reason, 'Delivered');
    const before = servers.slack.messages.length;
    const posts = servers.shared.calls.length;
    await local.kill();
    await local.start();
    await request('plain', '--reason', 'after');
    await until('the next', () => servers.slack.messages.length > before || undefined);
    assert.equal(servers.slack.messages.length, before + 1);
    await until('the next', () => servers.shared.calls.length > posts || undefined);
    assert.equal(servers.shared.calls.length, posts + 1);
  });

  test('an answer that was lost after the work was done makes no second message', async () => {
    servers.slack.fail(/chat\.postMessage/, { kind: 'LostAnswer' });
    servers.shared.fail(/\/in/, { kind: 'LostAnswer' });
    const name = await request('plain', '--reason', 'lost');
    await until('the second attempt', () => told(name).length === 2 || undefined);
    // A webhook can not look; the receiver goes by the id.
    assert.equal(new Set(told(name).map(({ id }) => id)).size, 1);
    await until('the look', () => servers.slack.calls.find(({ path: each }) => each.endsWith('conversations.history')));
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(servers.slack.messages.filter(({ text }) => text.includes(name)).length, 1);
  });

  test('a rate limit is kept', async () => {
    const start = Date.now();
    servers.slack.fail(/chat\.postMessage/, {
      kind: 'Answer',
      reply: { status: 429, headers: { 'retry-after': '3' }, body: { ok: false, error: 'ratelimited' } },
    });
    const name = await request('plain', '--reason', 'limited');
    await until('the message', () => servers.slack.messages.find(({ text }) => text.includes(name)));
    assert.ok(Date.now() - start >= 3_000);
    assert.equal(servers.slack.messages.filter(({ text }) => text.includes(name)).length, 1);
  });

  test('a redirect is not followed, and the credential goes nowhere else', async () => {
    const seen = servers.open.calls.length;
    servers.jira.issues.set('OPS-7', issue('OPS-7', '10002'));
    servers.jira.fail(/OPS-7/, {
      kind: 'Answer',
      reply: { status: 302, headers: { location: `${servers.open.url}/steal` } },
    });
    const name = await request('tickets', '--ticket', 'OPS-7');
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    assert.ok(!servers.open.calls.slice(seen).some((call) => call.path === '/steal' || call.headers['authorization']));
    assert.equal((await grant(name)).status?.phase, 'Pending');
  });

  const issue = (key: string, state: string, assignee = 'acc-alice') => ({
    key,
    status: { id: state, name: state === '10002' ? 'Approved' : 'Draft' },
    assignee,
    history: [],
    comments: [],
  });
  const approve = async (name: string) => {
    const answer = await local.cli(['approve', name, '-n', 'payments', '--yes'], { as: 'dana', groups: ['dba'] });
    assert.equal(answer.code, 0, answer.output);
  };

  test('INV-08: without a ticket of the right form, state and assignee there is no access', async () => {
    servers.jira.issues.set('OPS-20', issue('OPS-20', '1'));
    servers.jira.issues.set('OPS-21', issue('OPS-21', '10002', 'acc-bert'));
    servers.jira.issues.set('OPS-22', { ...issue('OPS-23', '10002'), key: 'OPS-23' });
    for (const [args, why] of [
      [[], /for a ticket only, and the request names none/],
      [['--ticket', 'OPS-1/../../x'], /not of the form/],
      [['--ticket', 'ops-20'], /not of the form/],
      [['--ticket', 'OPS-20'], /in state Draft \(1\)/],
      [['--ticket', 'OPS-21'], /not assigned to alice@corp.example/],
      [['--ticket', 'OPS-22'], /no ticket OPS-22/],
      [['--ticket', 'OPS-404'], /no ticket OPS-404/],
    ] as const) {
      const answer = await local.cli(
        ['request', 'orders-db', '-n', 'payments', '--for', '1h', ...args],
        alice('tickets'),
      );
      const name = /(orders-db-[a-z0-9]{5})/.exec(answer.output)?.[1] ?? '';
      const seen = await phase(name, 'Denied');
      assert.match(seen.status?.message ?? '', why);
    }
  });

  test('a ticket is read when it is asked and when it starts; what can not be read is no, and is asked again', async () => {
    servers.jira.issues.set('OPS-30', issue('OPS-30', '10002'));
    const name = await request('tickets', '--ticket', 'OPS-30');
    servers.jira.outage({ kind: 'Answer', reply: { status: 503 } });
    await approve(name);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    assert.equal((await grant(name)).status?.phase, 'Pending');
    await local.kill();
    servers.jira.outage(undefined);
    await local.start();
    await phase(name, 'Active');
    const votes = await votesOf(name);
    assert.deepEqual(votes.map(({ spec }) => `${spec.approver!.username} ${spec.decision}`).sort(), [
      'dana Approve',
      'ticket-check:jira Approve',
    ]);
    const comments = await until('the comments', () => {
      const all = servers.jira.issues.get('OPS-30')!.comments;
      return all.some((text) => text.includes('has access')) ? all : undefined;
    });
    assert.equal(comments.filter((text) => text.includes('has access')).length, 1);
    // It turned bad between request and start.
    servers.jira.issues.set('OPS-31', issue('OPS-31', '10002'));
    const late = await request('tickets', '--ticket', 'OPS-31');
    await until('the first look', () => servers.jira.calls.find((call) => call.path.endsWith('OPS-31')));
    servers.jira.issues.get('OPS-31')!.status = { id: '1', name: 'Draft' };
    await approve(late);
    await phase(late, 'Denied');
  });

  test('an approved change is one vote, exactly once, whatever dies; not if its requester approved it', async () => {
    const change = (number: string, approvers: (typeof carl)[]) =>
      servers.serviceNow.changes.set(number, {
        number,
        state: '-1',
        stateName: 'Implement',
        approval: 'approved',
        approvers,
        workNotes: [],
      });
    change('CHG0000001', [carl]);
    change('CHG0000002', [{ ...carl, account: '1'.repeat(32) }]);
    change('CHG0000003', [carl, { ...carl, account: '3'.repeat(32), email: 'Alice@corp.example' }]);
    change('CHG0000004', []);
    servers.serviceNow.fail(/sysapproval_approver/, { kind: 'Slow', ms: 600 }, { kind: 'LostAnswer' });
    const name = await request('changes', '--ticket', 'CHG0000001');
    await local.kill();
    await local.start();
    await phase(name, 'Active');
    const votes = (await votesOf(name)).filter(({ status }) =>
      status?.conditions?.some(({ type, status: counted }) => type === 'Counted' && counted === 'True'),
    );
    assert.deepEqual(votes.map(({ spec }) => spec.approver!.username).sort(), ['ticket-check:snow', 'ticket:snow']);
    await until('the work note', () =>
      servers.serviceNow.changes.get('CHG0000001')!.workNotes.find((note) => note.includes('has access')),
    );
    for (const number of ['CHG0000002', 'CHG0000003', 'CHG0000004']) {
      const own = await request('changes', '--ticket', number);
      await until('the look', () =>
        servers.serviceNow.calls.find((call) => call.query.get('sysparm_query') === `number=${number}`),
      );
      await new Promise((resolve) => setTimeout(resolve, 700));
      assert.deepEqual([(await grant(own)).status?.phase, (await votesOf(own)).length], ['Pending', 0], number);
    }
  });

  test('INV-08: nobody votes under the name of a ticket system', async () => {
    servers.serviceNow.changes.set('CHG0000009', {
      number: 'CHG0000009',
      state: '-1',
      stateName: 'Implement',
      approval: 'requested',
      approvers: [],
      workNotes: [],
    });
    const name = await request('changes', '--ticket', 'CHG0000009');
    for (const as of ['ticket:snow', 'ticket-check:snow'])
      await local.cli(['approve', name, '-n', 'payments', '--yes'], { as, groups: [] });
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal((await grant(name)).status?.phase, 'Pending');
  });

  test('INV-05: no credential is in a message, a record, a log, a status', async () => {
    const everything = [
      ...servers.slack.messages.map((each) => JSON.stringify(each)),
      ...servers.shared.calls.map(({ body }) => body),
      ...servers.open.calls.map(({ body, headers }) => body + JSON.stringify(headers)),
      ...[...servers.jira.issues.values()].flatMap(({ comments }) => comments),
      ...[...servers.serviceNow.changes.values()].flatMap(({ workNotes }) => workNotes),
      local.output(),
      JSON.stringify(await client.list('ClusterNotifier', undefined)),
      JSON.stringify(await client.list('Notifier', undefined)),
      ...fs
        .readdirSync(local.state, { recursive: true, encoding: 'utf8' })
        .map((file) => path.join(local.state, file))
        .filter((file) => fs.statSync(file).isFile())
        .map((file) => fs.readFileSync(file, 'latin1')),
    ];
    assert.ok(everything.length > 20);
    for (const text of everything) assert.doesNotMatch(text, SECRETS);
  });
});

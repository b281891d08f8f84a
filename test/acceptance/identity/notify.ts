// Ticket and chat flows of a running local daemon, against small servers that behave as the products' documented APIs, with
// outages, lost answers, rate limits and kills between: every message shows once, every decision is applied once.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import { type Client, createClient } from '../../../src/cli/client.ts';
import type { Fault, HttpsDouble } from '../../support/https-double.ts';
import { sleep, until } from '../../support/in-process.ts';
import { type Local, startLocal } from '../../support/local.ts';
import { type NotifyServers, notifyFiles, startNotifyServers } from '../../support/notify-scene.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';
import { type CriteriaGroup, trials } from '../criterion.ts';

let servers: NotifyServers;
let target: PostgresServer;
let local: Local;
let client: Client;

const alice = (groups: string) => ({ as: 'alice@corp.example', groups: groups.split(',') });

async function request(groups: string, ...args: string[]): Promise<AccessGrant> {
  const answer = await local.cli(['request', 'orders-db', '-n', 'payments', '--for', '1h', ...args], alice(groups));
  const name = /(orders-db-[a-z0-9]{5})\b/.exec(answer.output)?.[1];
  assert.ok(name !== undefined, answer.output);
  return until('the grant', () => client.get<AccessGrant>('AccessGrant', 'payments', name));
}

const inPhase = (grant: AccessGrant, phase: string): Promise<AccessGrant> =>
  until(
    `${grant.metadata.name} to be ${phase}`,
    async () => {
      const seen = await client.get<AccessGrant>('AccessGrant', 'payments', grant.metadata.name);
      return seen?.status?.phase === phase ? seen : undefined;
    },
    90_000,
  );

async function restart(): Promise<void> {
  await local.kill();
  await local.start();
}

async function approve(grant: AccessGrant): Promise<void> {
  const args = ['approve', grant.metadata.name, '-n', 'payments', '--yes'];
  const answer = await local.cli(args, { as: 'dana', groups: ['dba'] });
  assert.equal(answer.code, 0, answer.output);
}

const FAULTS: readonly Fault[] = [
  { kind: 'Reset' },
  { kind: 'LostAnswer' },
  { kind: 'Slow', ms: 400 },
  { kind: 'Answer', reply: { status: 500 } },
  {
    kind: 'Answer',
    reply: { status: 429, headers: { 'retry-after': '1' }, body: { ok: false, error: 'ratelimited' } },
  },
  { kind: 'Answer', reply: { status: 302, headers: { location: 'https://elsewhere.example/' } } },
];

/** Every fault once, at the next calls that do something. */
const trouble = (double: HttpsDouble, calls: RegExp): void => double.fail(calls, ...FAULTS);

function issue(key: string): void {
  servers.jira.issues.set(key, {
    key,
    status: { id: '10002', name: 'Approved' },
    assignee: 'acc-alice',
    history: [],
    comments: [],
  });
}

function change(number: string, account = '2'.repeat(32)): void {
  servers.serviceNow.changes.set(number, {
    number,
    state: '-1',
    stateName: 'Implement',
    approval: 'approved',
    approvers: [{ account, state: 'approved', userName: 'carl', email: 'carl@corp.example', name: 'Carl' }],
    workNotes: [],
  });
}

async function countedVotes(grant: AccessGrant): Promise<string[]> {
  const all = await client.list<AccessApproval>('AccessApproval', 'payments');
  return all
    .filter(({ spec }) => spec.targetRef.uid === grant.metadata.uid)
    .filter(({ status }) => status?.conditions?.some(({ type, status: is }) => type === 'Counted' && is === 'True'))
    .map(({ spec }) => `${spec.approver!.username} ${spec.decision}`)
    .sort();
}

async function chats(): Promise<string> {
  const rounds = trials(4);
  const grants: AccessGrant[] = [];
  for (let round = 0; round < rounds; round += 1) {
    trouble(servers.slack, /chat\.postMessage/);
    trouble(servers.shared, /\/in/);
    grants.push(await request('plain', '--reason', `round ${round}`));
    await restart();
    await approve(grants.at(-1)!);
    await restart();
  }
  await until(
    'every approval in the chat',
    () =>
      grants.every(({ metadata }) =>
        servers.slack.messages.some(({ text }) => text.includes('has access') && text.includes(metadata.name)),
      ) || undefined,
    120_000,
  );
  const posts = () =>
    servers.shared.calls.map((call) => {
      const body = JSON.parse(call.body) as { type: string; data: { object: { uid: string } } };
      return { id: String(call.headers['webhook-id']), what: `${body.type} ${body.data.object.uid}` };
    });
  await until(
    'every post',
    () =>
      grants.every(({ metadata }) => posts().some(({ what }) => what === `GrantApproved ${metadata.uid}`)) || undefined,
    120_000,
  );
  // Anything sent twice would come by now.
  await sleep(2_000);
  const ids = servers.slack.messages.map(({ metadata }) => String(metadata?.event_payload['id']));
  assert.equal(new Set(ids).size, ids.length, 'a message shows twice in the channel');
  const hooks = posts();
  const pairs = new Set(hooks.map(({ id, what }) => `${id} ${what}`));
  for (const { metadata } of grants)
    for (const event of ['GrantRequested', 'GrantApproved'])
      assert.equal([...pairs].filter((pair) => pair.endsWith(`${event} ${metadata.uid}`)).length, 1, event);
  return `${ids.length} messages shown once, ${hooks.length} posts of ${pairs.size} ids, over ${2 * rounds} kills and ${2 * rounds * FAULTS.length} faults`;
}

async function decisions(): Promise<string> {
  const rounds = trials(3);
  let votes = 0;
  for (let round = 0; round < rounds; round += 1) {
    const [key, number] = [`OPS-${100 + round}`, `CHG${String(100 + round).padStart(7, '0')}`];
    issue(key);
    change(number);
    trouble(servers.jira, /\/issue\/OPS-\d+$/);
    trouble(servers.serviceNow, /change_request$|sysapproval_approver/);
    const asked = await request('tickets', '--ticket', key);
    const approved = await request('changes', '--ticket', number);
    await restart();
    await approve(asked);
    await restart();
    await inPhase(asked, 'Active');
    await inPhase(approved, 'Active');
    assert.deepEqual(await countedVotes(asked), ['dana Approve', 'ticket-check:jira Approve']);
    assert.deepEqual(await countedVotes(approved), ['ticket-check:snow Approve', 'ticket:snow Approve']);
    votes += 4;
    const told = (texts: readonly string[]): number => texts.filter((text) => text.includes('has access')).length;
    await until('the comment', () => told(servers.jira.issues.get(key)!.comments) > 0 || undefined, 60_000);
    await until('the note', () => told(servers.serviceNow.changes.get(number)!.workNotes) > 0 || undefined, 60_000);
    await sleep(1_000);
    assert.equal(told(servers.jira.issues.get(key)!.comments), 1);
    assert.equal(told(servers.serviceNow.changes.get(number)!.workNotes), 1);
  }
  return `${votes} votes each counted once, ${2 * rounds} kills, ${2 * rounds * FAULTS.length} faults; one comment each`;
}

async function refusals(): Promise<string> {
  change('CHG0000901', '1'.repeat(32));
  const own = await request('changes', '--ticket', 'CHG0000901');
  issue('OPS-901');
  servers.jira.issues.get('OPS-901')!.status = { id: '1', name: 'Draft' };
  await inPhase(await request('tickets', '--ticket', 'OPS-901'), 'Denied');
  issue('OPS-902');
  servers.jira.issues.get('OPS-902')!.assignee = 'acc-bert';
  await inPhase(await request('tickets', '--ticket', 'OPS-902'), 'Denied');
  await inPhase(await request('tickets', '--ticket', 'OPS-1/../OPS-100'), 'Denied');
  issue('OPS-903');
  servers.jira.outage({ kind: 'Answer', reply: { status: 403 } });
  const unknown = await request('tickets', '--ticket', 'OPS-903');
  await approve(unknown);
  await sleep(3_000);
  const seen = await client.get<AccessGrant>('AccessGrant', 'payments', unknown.metadata.name);
  assert.equal(seen?.status?.phase, 'Pending');
  servers.jira.outage(undefined);
  await inPhase(unknown, 'Active');
  const mine = await client.get<AccessGrant>('AccessGrant', 'payments', own.metadata.name);
  assert.deepEqual([mine?.status?.phase, await countedVotes(own)], ['Pending', []]);
  return 'wrong state, assignee and form denied; unreadable waits; own approval void';
}

async function emergency(): Promise<string> {
  for (const double of [servers.slack, servers.shared, servers.open]) double.outage({ kind: 'Reset' });
  const started = performance.now();
  const grant = await request('plain,oncall', '--break-glass', '--reason', 'INC-7');
  await inPhase(grant, 'Active');
  const tookMs = performance.now() - started;
  await restart();
  for (const double of [servers.slack, servers.shared, servers.open]) double.outage(undefined);
  const message = await until(
    'the emergency in the chat',
    () => servers.slack.messages.find(({ text }) => text.startsWith('EMERGENCY') && text.includes(grant.metadata.name)),
    60_000,
  );
  assert.match(message.text, /Sign-off: /);
  return `given in ${Math.round(tookMs)} ms with every receiver away, told after they were back`;
}

async function session(): Promise<string> {
  issue('OPS-500');
  const asked = await request('tickets', '--ticket', 'OPS-500');
  await approve(asked);
  await inPhase(asked, 'Active');
  const run = await local.cli(
    ['connect', 'orders-db', '-n', 'payments', '--', 'psql', '-Atc', 'select 40 + 2, pg_sleep(2)'],
    alice('tickets'),
  );
  assert.match(run.stdout, /42/, run.output);
  const { comments } = servers.jira.issues.get('OPS-500')!;
  const ended = await until('the end of the session', () =>
    comments.find((text) => /session .* has ended/i.test(text)),
  );
  const record = /Record: (\S+)/.exec(ended)?.[1];
  assert.ok(record !== undefined, ended);
  const shown = await local.cli(['records', 'show', record], { as: 'dana', groups: ['dba'] });
  assert.match(shown.output, /40 \+ 2/, shown.output);
  return `record ${record} named in the ticket, and shown`;
}

async function leaks(): Promise<string> {
  const everything = [
    ...servers.slack.messages.map((each) => JSON.stringify(each)),
    ...[servers.shared, servers.open].flatMap(({ calls }) => calls.map(({ body }) => body)),
    ...[...servers.jira.issues.values()].flatMap(({ comments }) => comments),
    ...[...servers.serviceNow.changes.values()].flatMap(({ workNotes }) => workNotes),
    local.output(),
    ...fs
      .readdirSync(local.state, { recursive: true, encoding: 'utf8' })
      .map((file) => path.join(local.state, file))
      .filter((file) => fs.statSync(file).isFile())
      .map((file) => fs.readFileSync(file, 'latin1')),
  ];
  for (const text of everything) assert.doesNotMatch(text, /SECRET(SLACK|JIRA|SNOW|DB)|whsec_[A-Za-z0-9]/);
  return `${everything.length} messages and files`;
}

export const notify: CriteriaGroup = {
  name: 'notify',
  async start() {
    target = await startPostgres({ setup: "create role reader login password 'SECRETDB'" });
    servers = await startNotifyServers();
    local = await startLocal(notifyFiles(servers, { port: target.port, ca: target.ca }));
    client = createClient(local.state, 'sallyport');
  },
  criteria: [
    { claim: 'chat and webhooks: each message once, over outages, lost answers and kills', check: chats },
    { claim: 'tickets decide exactly once, over outages, lost answers and kills', check: decisions },
    {
      claim: 'no ticket, or a bad, foreign or unreadable one, gives no access; own approvals are void',
      check: refusals,
    },
    { claim: 'break-glass waits for no notifier, and is told once one is back', check: emergency },
    { claim: 'start, end and the name of the session’s record come back to the ticket', check: session },
    { claim: 'no credential in a message, a record, the log or the state', check: leaks },
  ],
  async stop() {
    await local?.stop();
    await servers?.stop();
    await target?.stop();
  },
};

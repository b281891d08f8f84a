// The target's password, tickets and masked data: searched for in everything the gateway writes, prints or answers.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import {
  ALICE,
  CANARIES,
  CARDS,
  EXEMPT,
  filesBelow,
  hits,
  login,
  PASSWORDS,
  type Place,
  place,
  type SecretsBed,
  STRAY,
  startSecretsBed,
  unpackedRecords,
} from '../hostile/secrets/bed.ts';
import { brokenSecrets, brokenTarget, provoke, rotate, strangeLogins } from '../hostile/secrets/provoke.ts';
import type { CriteriaGroup } from './criterion.ts';

let bed: SecretsBed;
/** Everything clients were told beside rows that they may see. */
const answers: Place[] = [];
const tickets: string[] = [];

function clean(places: readonly Place[], secrets: readonly string[]): string {
  assert.ok(places.length > 0);
  const found = hits(places, secrets);
  assert.deepEqual(found, [], `${found.length} hits`);
  const bytes = places.reduce((sum, each) => sum + each.bytes.length, 0);
  return `0 hits of ${secrets.length} secrets in ${places.length} places, ${Math.ceil(bytes / 1024)} KiB`;
}

async function start(): Promise<void> {
  bed = await startSecretsBed();
  const masked = await login(bed.alice);
  const { errors, rows } = await provoke(masked, 'alice');
  await masked.end();
  answers.push(...errors, ...rows.filter(({ name }) => !/literal|parameter|application_name/.test(name)));
  const clear = await login(bed.exempt);
  const seen = await provoke(clear, 'the exempt');
  await clear.end();
  // Otherwise there was nothing that records had to hide.
  assert.ok(hits(seen.rows, CARDS).length > 0, 'the exempt person did not see the clear values');
  const ticket = bed.alice.login().password;
  tickets.push(ticket);
  answers.push(...(await strangeLogins(bed, [CARDS[0]!, CARDS[1]!, ticket])));
  answers.push(...(await brokenTarget(bed)));
  answers.push(...(await brokenSecrets(bed)));
  answers.push(...(await rotate(bed)));
}

/** What everything of the API's and the records' verbs prints. */
async function printed(): Promise<Place[]> {
  const { local } = bed;
  const list = await local.cli(['records', 'ls', '-o', 'json']);
  const sessions = (JSON.parse(list.stdout) as { items: { session: string }[] }).items.map(({ session }) => session);
  assert.ok(sessions.length >= 4, `only ${sessions.length} sessions on record`);
  const commands = [
    ['ls', '-A', '-o', 'json'],
    ['ls', '-A'],
    ['status', '--all', '-o', 'json'],
    ['sessions', '-o', 'json'],
    ['pending', '-o', 'json'],
    ['holds', '-o', 'json'],
    ['audit', 'columns', '*/*.*.*'],
    ['verify'],
    ...sessions.slice(0, 12).flatMap((id) => [
      ['replay', id],
      ['records', 'show', id],
    ]),
  ];
  const places = [place('records ls', list.stdout + list.stderr)];
  for (const args of commands) {
    const run = await local.cli(args, { as: ALICE.username, groups: EXEMPT.groups });
    places.push(place(args.join(' '), run.stdout + run.stderr));
  }
  return places;
}

async function processes(): Promise<string> {
  const { local } = bed;
  const probe =
    'for p in $$ $PPID; do echo "cmdline of $p:"; tr "\\0" "\\n" < /proc/$p/cmdline; done; echo "environ of parent:"; cat /proc/$PPID/environ; echo; echo "environ of client:"; env';
  const run = await local.cli(['connect', 'orders-db', '--', 'sh', '-c', probe], {
    as: ALICE.username,
    groups: [...ALICE.groups],
  });
  assert.equal(run.code, 0, run.stderr);
  // The script that says so is in the command lines as well.
  const cut = run.stdout.lastIndexOf('environ of client:');
  const client = place('the client’s environment', run.stdout.slice(cut));
  const before = place('command lines and the parent’s environment', run.stdout.slice(0, cut));
  const ticket = /^PGPASSWORD=(.+)$/m.exec(client.bytes.toString())?.[1];
  assert.ok(ticket !== undefined && ticket.length > 100, 'the client has no ticket');
  tickets.push(ticket);
  const of = (what: string): Place =>
    place(`/proc/daemon/${what}`, fs.readFileSync(`/proc/${local.pid}/${what}`, 'utf8'));
  const daemon = [of('cmdline'), of('environ')];
  const figure = clean([...daemon, client, before], [...PASSWORDS, ...CANARIES]);
  clean([...daemon, before], [ticket]);
  return `${figure}; the ticket only in its client's own environment`;
}

const stateFiles = (): Place[] => [...filesBelow(bed.local.state), ...unpackedRecords(`${bed.local.state}/records`)];

export const secrets: CriteriaGroup = {
  name: 'secrets',
  start,
  criteria: [
    {
      claim: 'no error, notice or row that clients got holds the target’s password, a ticket, or a masked value',
      check: async () => `${clean(answers, [...PASSWORDS, ...CANARIES, ...tickets])}, all clients' answers`,
    },
    { claim: 'no command line or environment of the daemon or of clients holds them', check: processes },
    {
      claim: 'the daemon’s output, at its most talkative, and its metrics hold none of them',
      async check() {
        const metrics = await (await fetch(bed.metrics)).text();
        assert.match(metrics, /sallyport_/);
        const output = bed.local.output();
        assert.match(output, /"level":"debug"/);
        return clean([place('output', output), place('metrics', metrics)], [...PASSWORDS, ...CANARIES, ...tickets]);
      },
    },
    {
      claim: 'no verb of the command line prints them',
      check: async () => clean(await printed(), [...PASSWORDS, ...CANARIES, ...tickets]),
    },
    {
      claim: 'no file of the state folder holds them: records as they lie and unpacked, journal, keys',
      async check() {
        const live = clean(stateFiles(), [...PASSWORDS, ...CANARIES, ...tickets]);
        await bed.local.kill();
        await bed.local.start();
        return `${live}; after a kill and restart: ${clean(stateFiles(), [...PASSWORDS, ...CANARIES, ...tickets])}`;
      },
    },
    {
      claim: 'the search finds what is there: each secret planted in each spelling',
      async check() {
        const all = [...PASSWORDS, ...CANARIES, ...tickets];
        const planted = all.flatMap((secret) => [
          place('plain', `x${secret}y`),
          place('json', JSON.stringify({ a: secret })),
          place('url', `u:${encodeURIComponent(secret)}@h`),
          place('hex', Buffer.from(`..${secret}`).toString('hex')),
          ...[0, 1, 2].map((pad) =>
            place(`base64 ${pad}`, Buffer.from(`${'.'.repeat(pad)}${secret}....`).toString('base64')),
          ),
        ]);
        const missed = planted.filter((each, index) => hits([each], [all[Math.floor(index / 7)]!]).length === 0);
        assert.deepEqual(
          missed.map(({ name, bytes }) => `${name} ${bytes.toString()}`),
          [],
        );
        assert.ok(hits([place('stray', STRAY)], CARDS).length === 0);
        return `${planted.length} planted, ${planted.length} found`;
      },
    },
  ],
  async stop() {
    await bed?.stop();
  },
};

// The whole corpus through one daemon, in the ways asked for, and what came of it. A leak is a canary in anything a
// client got, in the records, or in what the daemon said.
import fs from 'node:fs';
import path from 'node:path';
import { query, SYNC } from '../../../src/protocols/postgres/wire/messages.ts';
import type { CommandBody, ResultBody } from '../../../src/recording/envelope.ts';
import { until } from '../../support/in-process.ts';
import { bindMessage, executeMessage, fields, parseMessage, type RawMessage } from '../../support/raw-postgres.ts';
import { CONNECTION, NAMESPACE, type Scene, startScene } from '../../support/scene.ts';
import { EXTRACTIONS, MASKED, ORACLES } from '../masking/attacks.ts';
import type { Step } from '../masking/harness.ts';
import { CARDS } from '../masking/schema.ts';
import { LATE, LEAK_SETUP, leakPolicy, WIRE } from './corpus.ts';
import { canaries, playSteps, playWire, type Way } from './play.ts';

const ATTACKER = { username: 'mallory', groups: ['attackers'] };

export interface Leak {
  attack: string;
  way: string;
  canaries: string[];
}

export interface Outcome {
  /** Different statements and sequences, and how often one was played in some way. */
  attacks: number;
  played: number;
  refused: number;
  /** Results in which values were masked, by the records. */
  masked: number;
  leaked: Leak[];
  /** Guesses that were answered, attacks that ought to be masked and were not, a table that is not what it was. */
  broken: string[];
}

type Attack = string | Step | readonly (string | Step)[];
const stepsOf = (attack: Attack): readonly (string | Step)[] =>
  Array.isArray(attack) ? attack : [attack as string | Step];
const titleOf = (attack: Attack): string =>
  stepsOf(attack)
    .map((step) => (typeof step === 'string' ? step : step.sql))
    .join('; ');

export function startLeakScene(): Promise<Scene> {
  return startScene({ setup: LEAK_SETUP, policies: leakPolicy(NAMESPACE, CONNECTION, false) });
}

/** `ways(index)`: how the attack of that number is played. */
export async function playCorpus(scene: Scene, ways: (index: number) => readonly Way[]): Promise<Outcome> {
  const held = await scene.granted(ATTACKER);
  (await scene.raw(held)).end();
  const outcome: Outcome = { attacks: 0, played: 0, refused: 0, masked: 0, leaked: [], broken: [] };
  const look = (attack: string, way: string, shown: Buffer, digits?: number): void => {
    const found = canaries(shown, digits);
    if (found.length > 0) outcome.leaked.push({ attack, way, canaries: found });
  };
  const play = async (
    attack: Attack,
    index: number,
    judge?: (played: { refused: number; rows: number }, way: Way) => string | undefined,
  ): Promise<void> => {
    outcome.attacks += 1;
    for (const way of ways(index)) {
      const played = await playSteps(scene, held, stepsOf(attack), way);
      outcome.played += 1;
      if (played.refused > 0) outcome.refused += 1;
      look(titleOf(attack), way, played.shown);
      const broken = judge?.(played, way);
      if (broken !== undefined) outcome.broken.push(`${broken}: ${titleOf(attack)} (${way})`);
    }
  };
  let index = 0;
  for (const attack of EXTRACTIONS) await play(attack, index++);
  for (const attack of ORACLES) {
    await play(attack, index++, ({ refused }, way) =>
      refused > 0 || (way === 'driver' && titleOf(attack).startsWith('copy')) ? undefined : 'a guess was answered',
    );
  }
  for (const attack of WIRE) {
    outcome.attacks += 1;
    outcome.played += 1;
    const played = await playWire(held, attack);
    if (played.refused > 0) outcome.refused += 1;
    look(attack.name, 'wire', played.shown);
  }
  look('a payload that another session notifies', 'wire', await notified(scene, held));
  outcome.attacks += 1;
  outcome.played += 1;
  // Last, so that it is seen that the attacks left the tables as they were.
  for (const { attack } of MASKED) {
    await play(attack, index++, ({ refused, rows }) =>
      refused > 0 ? 'refused, not masked' : rows === 0 ? 'no rows' : undefined,
    );
  }
  const numbers = await scene.value<string[]>('select array_agg(number order by id) from sales.cards where id <= 3');
  if (numbers.join() !== CARDS.join()) outcome.broken.push(`the masked table holds ${numbers.join()}`);
  const late = await acrossPolicyChange(scene, held);
  outcome.attacks += 1;
  outcome.played += 1;
  if (late.before === 0) outcome.broken.push('nothing was seen before the policy changed');
  if (late.after.includes(LATE.slice(0, 6))) {
    outcome.leaked.push({ attack: 'prepared before the policy changed', way: 'wire', canaries: [LATE] });
  }
  const records = scene.records();
  for (const { kind, body } of records) {
    if (kind === 'result' && ((body as ResultBody).masked ?? 0) > 0) outcome.masked += 1;
    const found = canaries(
      Buffer.from(JSON.stringify(body, (key, value: unknown) => (key === 'durationMs' ? 0 : value))),
    );
    if (found.length > 0) {
      const { text, parameters } = body as Partial<CommandBody>;
      outcome.leaked.push({
        attack: `${text ?? JSON.stringify(body)} ${parameters?.join() ?? ''}`,
        way: `record ${kind}`,
        canaries: found,
      });
    }
  }
  look('what the daemon printed', 'log', Buffer.from(scene.local.output()));
  for (const name of fs.readdirSync(scene.local.state, { recursive: true, encoding: 'utf8' })) {
    const file = path.join(scene.local.state, name);
    // Binary forms may hold any six bytes by chance; text of the state does not.
    if (/\.(jsonl?|yaml|log)$/.test(name) && fs.statSync(file).isFile()) {
      look(name, 'file', withoutHashes(fs.readFileSync(file)), 7);
    }
  }
  return outcome;
}

/** SHA-256 in hex has any few digits by chance, and never those of a card: it can not be made to say something. */
const withoutHashes = (bytes: Buffer): Buffer =>
  Buffer.from(bytes.toString('latin1').replaceAll(/\b[0-9a-f]{64}\b/g, ''), 'latin1');

async function notified(scene: Scene, held: Awaited<ReturnType<Scene['granted']>>): Promise<Buffer> {
  const client = await scene.raw(held);
  client.send(query('listen cards'));
  await client.ready();
  await scene.server.query(`select pg_notify('cards', '${CARDS[1]}')`);
  await new Promise((resolve) => setTimeout(resolve, 100));
  client.send(query('select 1'));
  const seen = await client.ready();
  client.end();
  return Buffer.concat(seen.map((one) => one.body));
}

/** What a session that prepared, declared and bound while nothing was masked sees once it is. */
async function acrossPolicyChange(
  scene: Scene,
  held: Awaited<ReturnType<Scene['granted']>>,
): Promise<{ before: number; after: Buffer }> {
  const [idle, open] = [await scene.raw(held), await scene.raw(held)];
  const select = 'select number from late order by id';
  for (const client of [idle, open]) {
    client.send(
      parseMessage('late', select),
      SYNC,
      query(`prepare ql as ${select}`),
      query('prepare qu as select upper(number) from late'),
    );
    await client.ready(3);
  }
  const canary = Buffer.from(LATE);
  open.send(
    query('begin'),
    query(`declare c cursor for ${select}`),
    query('fetch 1 from c'),
    bindMessage('p', 'late'),
    executeMessage('p', 1),
    SYNC,
  );
  const rows = await open.ready(4);
  const before = rows.filter((one) => one.type === 'D' && one.body.includes(canary)).length;

  scene.local.write('policy.yaml', leakPolicy(NAMESPACE, CONNECTION, true));
  const probe = await scene.raw(held);
  await until('the mask to be in force', async () => {
    probe.send(query(select));
    const seen = await probe.ready();
    return seen.some((one) => one.type === 'D' && one.body.includes(canary)) ? undefined : true;
  });
  probe.end();
  const got: RawMessage[] = [];
  const say = async (client: typeof idle, ...parts: Buffer[]): Promise<void> => {
    client.send(...parts);
    got.push(...(await client.ready()));
  };
  await say(open, executeMessage('p', 1), SYNC);
  if (got.some((one) => one.type === 'E')) await say(open, query('rollback; begin'));
  await say(open, query('fetch 1 from c'));
  await say(open, query('rollback'));
  for (const client of [idle, open]) {
    await say(client, bindMessage('', 'late'), executeMessage(''), SYNC);
    await say(client, bindMessage('', 'late', [], [1]), executeMessage(''), SYNC);
    await say(client, query('execute ql'));
    await say(client, query('execute qu'));
    await say(client, query(select));
    await say(client, query('copy late to stdout'));
    client.end();
  }
  return {
    before,
    after: Buffer.concat(got.map((one) => (one.type === 'E' ? Buffer.from(JSON.stringify(fields(one))) : one.body))),
  };
}

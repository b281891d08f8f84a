// Plays attacks through a daemon and collects every byte the client got, in whatever message.
import type pg from 'pg';
import { query, SYNC } from '../../../src/protocols/postgres/wire/messages.ts';
import type { HeldGrant } from '../../support/in-process.ts';
import {
  bindMessage,
  copyFail,
  describeMessage,
  executeMessage,
  fields,
  parseMessage,
  type RawClient,
  type RawMessage,
  rawConnect,
} from '../../support/raw-postgres.ts';
import type { Scene } from '../../support/scene.ts';
import type { Step } from '../masking/harness.ts';
import { CARDS, leaks } from '../masking/schema.ts';
import type { WireAttack } from './corpus.ts';

export const WAYS = ['simple', 'extended', 'binary', 'driver'] as const;
export type Way = (typeof WAYS)[number];

export interface Played {
  /** Everything the client got, as it came. */
  shown: Buffer;
  /** Statements refused by the gateway. */
  refused: number;
  /** Statements answered with a command tag. */
  completed: number;
  rows: number;
}

/**
 * Masked values in what was shown, in any form a statement or a wire can give them: `digits` consecutive ones of a card
 * (fewer may be chance), also backwards, in hex, base64 and UTF-16, and what `leaks` knows besides.
 */
export function canaries(shown: Buffer, digits = 6): string[] {
  const found = leaks(shown).filter((what) => !what.startsWith('digits '));
  const text = shown.toString('latin1');
  for (const card of CARDS) {
    const back = Array.from(card).toReversed().join('');
    for (let i = 0; i + digits <= card.length; i += 1) {
      if (text.includes(card.slice(i, i + digits))) found.push(`${digits} digits of ${card}`);
      if (text.includes(back.slice(i, i + digits))) found.push(`${digits} digits of ${card} backwards`);
    }
    const hex = Buffer.from(card.slice(0, -4)).toString('hex');
    for (let i = 0; i + 12 <= hex.length; i += 2) {
      if (text.includes(hex.slice(i, i + 12))) found.push(`six digits of ${card} in hex`);
    }
    for (const lead of ['', 'x', 'xx']) {
      const encoded = Buffer.from(lead + card).toString('base64');
      if (text.includes(encoded.slice(4, 16))) found.push(`base64 of ${card}`);
    }
    const utf16 = Buffer.from(card.slice(0, 6), 'utf16le').toString('latin1');
    if (text.includes(utf16)) found.push(`UTF-16 of ${card}`);
  }
  return [...new Set(found)];
}

/** Every refusal of the gateway names its denial. */
const isDenial = (detail: string | undefined): boolean => /denial d-/i.test(detail ?? '');

function count(played: Played, messages: readonly RawMessage[]): void {
  for (const one of messages) {
    played.shown = Buffer.concat([played.shown, Buffer.from(`\n${one.type}`), one.body]);
    if (one.type === 'D') played.rows += 1;
    if (one.type === 'C') played.completed += 1;
    if (one.type === 'E' && isDenial(fields(one).D)) played.refused += 1;
  }
}

async function turn(
  client: RawClient,
  played: Played,
  parts: readonly Buffer[],
  ready: number,
  extended: boolean,
): Promise<boolean> {
  client.send(...parts);
  let left = ready;
  try {
    while (left > 0) {
      const messages = await client.until((one) => one.type === 'Z' || one.type === 'G');
      count(played, messages);
      if (messages.at(-1)!.type === 'Z') left -= 1;
      else client.send(copyFail('no'), ...(extended ? [SYNC] : []));
    }
    return true;
  } catch {
    count(played, client.messages.splice(0)); // the session was ended: what it said counts too
    return false;
  }
}

export async function playSteps(
  scene: Scene,
  held: HeldGrant,
  steps: readonly (string | Step)[],
  way: Way,
): Promise<Played> {
  if (way === 'driver') return playDriver(scene, held, steps);
  const played: Played = { shown: Buffer.alloc(0), refused: 0, completed: 0, rows: 0 };
  const client = await scene.raw(held);
  try {
    for (const step of steps) {
      const { sql, binary, parameters } = typeof step === 'string' ? ({ sql: step } as Step) : step;
      const extended = way !== 'simple' || binary === true || parameters !== undefined;
      const parts = extended
        ? [
            parseMessage('', sql),
            bindMessage('', '', [...(parameters ?? [])] as (string | null)[], way === 'binary' || binary ? [1] : []),
            describeMessage('P', ''),
            executeMessage(''),
            SYNC,
          ]
        : [query(sql)];
      if (!(await turn(client, played, parts, 1, extended))) break;
    }
  } finally {
    client.end();
  }
  return played;
}

async function playDriver(scene: Scene, held: HeldGrant, steps: readonly (string | Step)[]): Promise<Played> {
  const played: Played = { shown: Buffer.alloc(0), refused: 0, completed: 0, rows: 0 };
  const { client, notices, errors } = await scene.driver(held);
  const keep = (value: unknown): void => {
    played.shown = Buffer.concat([played.shown, Buffer.from(`\n${JSON.stringify(value)}`)]);
  };
  client.on('notification', keep);
  try {
    for (const step of steps) {
      const { sql, binary, parameters } = typeof step === 'string' ? ({ sql: step } as Step) : step;
      if (/^\s*copy\b/i.test(sql)) continue; // the driver alone can not do COPY
      try {
        const config: pg.QueryConfig & { rowMode: 'array'; binary?: boolean } = {
          text: sql,
          values: [...(parameters ?? [])],
          rowMode: 'array',
          ...(binary ? { binary: true } : {}),
        };
        const results: unknown = await client.query(config);
        for (const result of [results].flat() as { rows?: unknown[] }[]) {
          played.completed += 1;
          played.rows += result.rows?.length ?? 0;
          keep(result.rows);
        }
      } catch (error) {
        keep({ ...(error as object), message: (error as Error).message });
        if (isDenial((error as { detail?: string }).detail)) played.refused += 1;
      }
    }
  } finally {
    keep([notices, errors.map(String)]);
    await client.end().catch(() => undefined);
  }
  return played;
}

export async function playWire(held: HeldGrant, attack: WireAttack): Promise<Played> {
  const played: Played = { shown: Buffer.alloc(0), refused: 0, completed: 0, rows: 0 };
  let client: RawClient;
  try {
    const { port, user, password, database } = held.login();
    const parameters = attack.startup ?? {};
    client = await rawConnect({ port, user, password, database, parameters });
  } catch (error) {
    if (attack.startup === undefined) throw error;
    played.shown = Buffer.from(String(error));
    played.refused += 1; // refused at the door
    return played;
  }
  try {
    for (const { send, ready } of attack.turns) {
      if (!(await turn(client, played, send, ready, send.at(-1) === SYNC))) break;
    }
    await new Promise((resolve) => setTimeout(resolve, 20)); // what comes on its own, as a notification does
    count(played, client.messages.splice(0));
  } finally {
    client.end();
  }
  return played;
}

// A daemon whose target's password and data are canaries, and everything it leaves anywhere, searched for them in every
// spelling that a leak could have.
import fs from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { readRecords } from '../../../src/recording/reader.ts';
import { decodeSegment } from '../../../src/recording/seal/segment.ts';
import { viewRecords } from '../../../src/recording/store-view.ts';
import { actsOn, type HeldGrant, type Person, until } from '../../support/in-process.ts';
import { connectionYaml, type Local, startLocal } from '../../support/local.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';

export const PASSWORD = 'Zq7-canary-password-91';
/** What it is changed to through the gateway, by somebody who may. */
export const NEXT_PASSWORD = 'Zq7-rotated-canary-password-92';
export const PASSWORDS = [PASSWORD, NEXT_PASSWORD];
/** Values of masked columns. The last two are no card numbers by their check digit: only the column says what they are. */
export const CARDS = [
  '4111111111111111',
  '4012 8888 8888 1881',
  '5500-0055-5555-5559',
  '378282246310005',
  '7300000000000777',
  'CANARY-5150-0042-7777-1',
];
/** Checked by detectors alone, in a column that no mask names. */
export const STRAY = '6011000990139424';
export const CANARIES = [...CARDS, STRAY];

export interface SecretsBed {
  server: PostgresServer;
  local: Local;
  metrics: string;
  /** Whoever sees masks. */
  alice: HeldGrant;
  /** Whoever is exempt from them: may see the clear value, records may not. */
  exempt: HeldGrant;
  connectionFiles(target?: { port?: number; password?: string; hosts?: string }): string;
  stop(): Promise<void>;
}

export const ALICE: Person = { username: 'alice@corp.example', groups: ['readers'] };
export const EXEMPT: Person = { username: 'fraud@corp.example', groups: ['readers', 'fraud'] };

const POLICY = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: readers, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects: [{kind: Group, name: readers}]
  accounts: [owner]
  access: Standing
  rules:
  - {name: everything, action: Allow}
  - name: whole-tables
    action: Hold
    sql: {unbounded: true, tables: [public.notes]}
    hold: {approvers: [{kind: Group, name: dba}], timeout: 2s}
  masking:
  - {name: numbers, columns: ["*.cards.number"], with: Last4, exempt: [{kind: Group, name: fraud}]}
  - {name: stray, detectors: [Card], with: Redact, exempt: [{kind: Group, name: fraud}]}
`;

export async function startSecretsBed(): Promise<SecretsBed> {
  const server = await startPostgres({
    database: 'orders',
    setup: `create role orders_owner login createrole password '${PASSWORD}';
      create table cards (id int primary key, number text unique not null check (number <> 'CANARY-5150-0042-7777-0'));
      insert into cards select n, c from unnest(array[${CARDS.map((card) => `'${card}'`).join(',')}]) with ordinality as t(c, n);
      create table notes (id int primary key, text text);
      insert into notes values (1, 'paid with ${STRAY}');
      create function spill() returns text language plpgsql as $$ begin raise notice 'seen %', (select string_agg(number, ' ') from cards); raise exception 'spilt %', (select number from cards limit 1); end $$;
      alter table cards owner to orders_owner; alter table notes owner to orders_owner; alter function spill() owner to orders_owner;
      grant all on schema public to orders_owner;`,
  });
  let local: Local | undefined;
  try {
    const files: SecretsBed['connectionFiles'] = (target = {}) => {
      const yaml = connectionYaml(
        { ...server, port: target.port ?? server.port },
        {
          database: 'orders',
          accounts: { owner: { username: 'orders_owner', password: target.password ?? PASSWORD } },
        },
      );
      return target.hosts === undefined
        ? yaml
        : yaml.replace(/sallyport-hosts: .*/, `sallyport-hosts: ${target.hosts}`);
    };
    local = await startLocal(
      { 'connection.yaml': files(), 'policy.yaml': POLICY },
      { args: ['--metrics-port', '0', '--log-level', 'debug'] },
    );
    const started = local;
    const metrics = await until('the metrics address', () => /http:\/\/\S+\/metrics/.exec(started.output())?.[0]);
    const acts = actsOn(local);
    const alice = await acts.request(ALICE, 'orders-db');
    const exempt = await acts.request(EXEMPT, 'orders-db');
    return {
      server,
      local,
      metrics,
      alice,
      exempt,
      connectionFiles: files,
      async stop() {
        await started.stop();
        await server.stop();
      },
    };
  } catch (error) {
    await local?.stop();
    await server.stop();
    throw error;
  }
}

/** A login with a fresh ticket, retried while the proxy has not heard of the grant yet. */
export async function login(held: HeldGrant, more: Partial<pg.ClientConfig> = {}): Promise<pg.Client> {
  return until('a login', async () => {
    const client = new pg.Client({ ...held.login(), ...more });
    client.on('error', () => undefined);
    return client.connect().then(
      () => client,
      () =>
        client
          .end()
          .then(() => undefined)
          .catch(() => undefined),
    );
  });
}

/** All that a client is told of an error. */
export const toldBy = (error: unknown): string =>
  error instanceof Error
    ? JSON.stringify(
        error,
        Object.getOwnPropertyNames(error).filter((name) => name !== 'stack'),
      )
    : String(error);

export interface Place {
  name: string;
  bytes: Buffer;
}

/** Every file below a folder; of sealed records also what they unpack to. */
export function filesBelow(folder: string): Place[] {
  const places: Place[] = [];
  for (const name of fs.readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const file = path.join(folder, name);
    if (!fs.statSync(file, { throwIfNoEntry: false })?.isFile()) continue;
    places.push({ name, bytes: fs.readFileSync(file) });
  }
  return places;
}

export function unpackedRecords(records: string): Place[] {
  using view = viewRecords(records);
  const places: Place[] = [];
  for (const { name, bytes } of filesBelow(records)) {
    if (!name.endsWith('.seg')) continue;
    const read = decodeSegment(bytes, view.keys);
    if (read.kind === 'Bad') throw new Error(`${name} can not be unpacked: ${read.problem}`);
    places.push({ name: `${name} unpacked`, bytes: read.lines });
  }
  const lines: string[] = [];
  for (const item of readRecords(view)) if (item.kind === 'Record') lines.push(JSON.stringify(item.record));
  places.push({ name: 'all records as read', bytes: Buffer.from(lines.join('\n')) });
  return places;
}

/** Spellings of one text: as it is, encoded, and with its separators taken out. */
function spellings(text: string): Buffer[] {
  const plain = new Set([text, encodeURIComponent(text), text.toLowerCase(), JSON.stringify(text).slice(1, -1)]);
  const digits = text.replace(/[ -]/g, '');
  if (/^\d{13,19}$/.test(digits)) {
    const groups = digits.match(/.{1,4}/g)!;
    for (const spelling of [digits, groups.join(' '), groups.join('-')]) plain.add(spelling);
  }
  const found = [...plain].map((each) => Buffer.from(each));
  const bytes = Buffer.from(text);
  found.push(Buffer.from(bytes.toString('hex')), Buffer.from(bytes.toString('utf8'), 'utf16le'));
  // Base64 of a text that holds it, at each of the three alignments; what shares its bits with neighbours is left out.
  for (let shift = 0; shift < 3; shift += 1) {
    const encoded = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
    const from = shift === 0 ? 0 : shift + 1;
    found.push(Buffer.from(encoded.slice(from, -4)));
    found.push(Buffer.from(encoded.slice(from, -4).replaceAll('+', '-').replaceAll('/', '_')));
  }
  return found;
}

/** `place: secret` of every hit. */
export function hits(places: readonly Place[], secrets: readonly string[]): string[] {
  const found: string[] = [];
  for (const secret of secrets) {
    const forms = spellings(secret);
    for (const { name, bytes } of places) {
      const at = forms.map((form) => bytes.indexOf(form)).find((each) => each >= 0);
      if (at !== undefined)
        found.push(`${secret} in ${name}: …${bytes.toString('utf8', Math.max(0, at - 160), at + 60)}…`);
    }
  }
  return found;
}

export const place = (name: string, text: string): Place => ({ name, bytes: Buffer.from(text) });

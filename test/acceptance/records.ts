// Records of real sessions, damaged in every way: each must be found, and the session and segment named.
import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { keyIdOf, type TrustedKey } from '../../src/policy/bundle-signing.ts';
import { type Finding, verifyRecords } from '../../src/recording/verify.ts';
import { actsOn, until } from '../support/in-process.ts';
import { connectionYaml, type Local, startLocal } from '../support/local.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import type { CriteriaGroup } from './criterion.ts';

const ACCOUNT = { username: 'reader', password: 'reader-password' };
const POLICY = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: readers, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects: [{kind: User, name: reader@corp.example}]
  accounts: [reader]
  access: Standing
  rules:
  - {name: read-only, preset: ReadOnly}
`;

interface Segment {
  piece: string;
  session: string;
  bytes: Buffer;
}

let server: PostgresServer;
let local: Local;
/** Sealed records of a daemon that ended in order; damaged in place and put right again. */
let sealed: string;
/** Records of a daemon that was killed: some are only in the live log. */
let live: string;
let roots: TrustedKey[];
let segments: Segment[];

async function session(statements: readonly string[]): Promise<void> {
  const acts = actsOn(local);
  const held = await acts.request({ username: 'reader@corp.example', groups: [] }, 'orders-db');
  const client = await until('a login', async () => {
    const candidate = new pg.Client(held.login());
    candidate.on('error', () => undefined);
    return candidate.connect().then(
      () => candidate,
      () => undefined,
    );
  });
  for (const statement of statements) await client.query(statement).catch(() => undefined);
  await client.end();
}

async function start(): Promise<void> {
  server = await startPostgres({
    database: 'orders',
    setup: `create role ${ACCOUNT.username} login password '${ACCOUNT.password}';
      create table orders (id int primary key, state text);
      insert into orders select g, 'new' from generate_series(1, 9) g;
      grant select on orders to reader;`,
  });
  local = await startLocal({
    'connection.yaml': connectionYaml(server, { database: 'orders', accounts: { reader: ACCOUNT } }),
    'policy.yaml': POLICY,
  });
  await session(['select * from orders', 'drop table orders', 'select 1/0']);
  await session(['select count(*) from orders', "select 'two'"]);
  await session(["select 'three'"]);
  const { pid } = local;
  process.kill(pid, 'SIGTERM');
  await until('the daemon to end', () => {
    try {
      process.kill(pid, 0);
      return undefined;
    } catch {
      return true;
    }
  });
  const folder = fs.mkdtempSync(path.join(fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'sallyport-records-'));
  sealed = path.join(folder, 'sealed');
  live = path.join(folder, 'live');
  const records = path.join(local.state, 'records');
  fs.cpSync(records, sealed, { recursive: true });
  await local.start();
  await session(["select 'four'"]);
  await new Promise((resolve) => setTimeout(resolve, 2_500)); // the mark, written each second, names what is there by now
  await local.kill();
  fs.cpSync(records, live, { recursive: true });
  const publicKey = createPublicKey(fs.readFileSync(path.join(local.state, 'pki/operator.pub')));
  roots = [{ keyId: keyIdOf(publicKey), publicKey }];
  segments = fs
    .readdirSync(path.join(sealed, 'sealed'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.seg'))
    .sort()
    .map((name) => ({
      piece: `sealed/${name}`,
      session: path.basename(name).split('.')[0]!,
      bytes: fs.readFileSync(path.join(sealed, 'sealed', name)),
    }));
  assert.ok(segments.length >= 4, `only ${segments.length} segments`);
  for (const each of [sealed, live]) assert.deepEqual(verifyRecords(each, { roots }).findings, [], each);
}

const findings = (folder: string): readonly Finding[] => verifyRecords(folder, { roots }).findings;

/** Puts other bytes in a file's place, looks, and puts the file right again. */
function withBytes<T>(folder: string, piece: string, bytes: Buffer | undefined, look: () => T): T {
  const file = path.join(folder, piece);
  const before = fs.existsSync(file) ? fs.readFileSync(file) : undefined;
  if (bytes === undefined) fs.unlinkSync(file);
  else fs.writeFileSync(file, bytes);
  try {
    return look();
  } finally {
    if (before === undefined) fs.unlinkSync(file);
    else fs.writeFileSync(file, before);
  }
}

const flipped = (bytes: Buffer, at: number, mask: number): Buffer => {
  const other = Buffer.from(bytes);
  other[at]! ^= mask;
  return other;
};

const names = (found: readonly Finding[], segment: Segment): boolean =>
  found.some(({ piece, session: id }) => piece === segment.piece && id === segment.session);

/** Tries each damage; the figure, or an error with the first that was not found. */
function tally(tries: Iterable<{ what: string; found: boolean }>, named: string): string {
  let tried = 0;
  const missed: string[] = [];
  for (const { what, found } of tries) {
    tried += 1;
    if (!found) missed.push(what);
  }
  assert.ok(tried > 0);
  assert.equal(missed.length, 0, `${missed.length} of ${tried} were not found: ${missed.slice(0, 3).join('; ')}`);
  return `${tried} tried, ${tried} found${named}`;
}

function* flips(): Generator<{ what: string; found: boolean }> {
  for (const [place, segment] of segments.entries()) {
    // Every byte of the first; of the others a sample, and every byte of their headers' beginning and signatures' end.
    const step = place === 0 ? 1 : 17;
    for (let at = 0; at < segment.bytes.length; at += step) {
      const mask = 1 << (at % 8);
      const found = withBytes(sealed, segment.piece, flipped(segment.bytes, at, mask), () => findings(sealed));
      yield { what: `bit ${at % 8} of byte ${at} of ${segment.piece}`, found: names(found, segment) };
    }
  }
}

function* misplaced(): Generator<{ what: string; found: boolean }> {
  for (const [place, segment] of segments.entries()) {
    const { piece, bytes } = segment;
    yield {
      what: `${piece} dropped`,
      found: withBytes(sealed, piece, undefined, () => names(findings(sealed), segment)),
    };
    const other = segments[(place + 1) % segments.length]!;
    yield {
      what: `${piece} swapped with ${other.piece}`,
      found: withBytes(sealed, piece, other.bytes, () =>
        withBytes(sealed, other.piece, bytes, () => {
          const found = findings(sealed);
          return names(found, segment) && names(found, other);
        }),
      ),
    };
    // The same piece once more: as the session's next segment, under another session, and on another day.
    const [, day, , index] = /^sealed\/([^/]+)\/(.+)\.(\d{6})\.seg$/.exec(piece)!;
    for (const copy of [
      `sealed/${day}/${segment.session}.${String(Number(index) + 7).padStart(6, '0')}.seg`,
      `sealed/${day}/s-other.000000.seg`,
      `sealed/2020-01-01/${segment.session}.${index}.seg`,
    ]) {
      fs.mkdirSync(path.dirname(path.join(sealed, copy)), { recursive: true });
      yield {
        what: `${piece} repeated as ${copy}`,
        found: withBytes(sealed, copy, bytes, () =>
          findings(sealed).some((each) => each.piece === copy && each.session),
        ),
      };
    }
    fs.rmdirSync(path.join(sealed, 'sealed/2020-01-01'));
    for (let length = bytes.length - 1; length >= 0; length -= length > bytes.length - 80 ? 1 : 97) {
      yield {
        what: `${piece} cut off at byte ${length}`,
        found: withBytes(sealed, piece, bytes.subarray(0, length), () => names(findings(sealed), segment)),
      };
    }
    yield {
      what: `${piece} with a byte more`,
      found: withBytes(sealed, piece, Buffer.concat([bytes, Buffer.from('\n')]), () =>
        names(findings(sealed), segment),
      ),
    };
  }
}

function* heads(): Generator<{ what: string; found: boolean }> {
  const piece = 'heads.log';
  const bytes = fs.readFileSync(path.join(sealed, piece));
  const found = (other: Buffer): readonly Finding[] => withBytes(sealed, piece, other, () => findings(sealed));
  const lines = bytes.toString('utf8').split('\n').slice(0, -1);
  const named = (line: string): Segment | undefined => {
    const head = JSON.parse(line.slice(0, line.lastIndexOf(' '))) as { kind: string; stream?: string; index?: number };
    if (head.kind !== 'Segment') return undefined;
    const end = `${head.stream}.${String(head.index).padStart(6, '0')}.seg`;
    return segments.find((segment) => segment.piece.endsWith(end));
  };
  for (let at = 0; at < bytes.length; at += 5) {
    yield {
      what: `byte ${at} of the heads flipped`,
      found: found(flipped(bytes, at, 1 << (at % 7))).some((each) => each.piece === piece),
    };
  }
  for (let kept = 0; kept < lines.length; kept += 1) {
    const rest = lines.slice(0, kept).map((line) => `${line}\n`);
    const cut = lines
      .slice(kept)
      .map(named)
      .filter((segment) => segment !== undefined);
    const seen = found(Buffer.from(rest.join('')));
    // A segment whose head is gone is named; where only the closing line is gone, that the log did not end is.
    yield {
      what: `the heads cut off after ${kept} lines`,
      found: seen.length > 0 && cut.every((segment) => names(seen, segment)),
    };
    const without = lines.filter((_, index) => index !== kept).map((line) => `${line}\n`);
    yield { what: `line ${kept} of the heads dropped`, found: found(Buffer.from(without.join(''))).length > 0 };
    const twice = lines.flatMap((line, index) => (index === kept ? [line, line] : [line])).map((line) => `${line}\n`);
    yield { what: `line ${kept} of the heads repeated`, found: found(Buffer.from(twice.join(''))).length > 0 };
    if (kept + 1 < lines.length) {
      const swapped = [...lines];
      [swapped[kept], swapped[kept + 1]] = [swapped[kept + 1]!, swapped[kept]!];
      yield {
        what: `lines ${kept} and ${kept + 1} of the heads swapped`,
        found: found(Buffer.from(`${swapped.join('\n')}\n`)).length > 0,
      };
    }
  }
  for (let back = 1; back < 400 && back < bytes.length; back += 3) {
    yield {
      what: `${back} bytes cut off the heads`,
      found: found(bytes.subarray(0, bytes.length - back)).length > 0,
    };
  }
}

function* liveLog(): Generator<{ what: string; found: boolean }> {
  const pieces = fs.readdirSync(path.join(live, 'live')).map((name) => `live/${name}`);
  assert.ok(pieces.includes('live/mark') && pieces.length >= 2, `there are ${pieces.join(', ')}`);
  for (const piece of pieces) {
    const bytes = fs.readFileSync(path.join(live, piece));
    for (let at = 0; at < bytes.length; at += 3) {
      const other = flipped(bytes, at, 1 << (at % 7));
      yield {
        what: `byte ${at} of ${piece} flipped`,
        found: withBytes(live, piece, other, () => findings(live).some((each) => each.piece === piece)),
      };
    }
    for (let back = 1; back < bytes.length; back += 41) {
      yield {
        what: `${back} bytes cut off ${piece}`,
        found: withBytes(live, piece, bytes.subarray(0, bytes.length - back), () => findings(live).length > 0),
      };
    }
  }
}

async function byCommand(): Promise<string> {
  const [first, second] = [segments[0]!, segments.at(-1)!];
  const middle = first.bytes.length >> 1;
  const told: string[] = [];
  const expect = async (what: string, piece: string, bytes: Buffer | undefined, wanted: RegExp): Promise<void> => {
    const file = path.join(sealed, piece);
    const before = fs.readFileSync(file);
    if (bytes === undefined) fs.unlinkSync(file);
    else fs.writeFileSync(file, bytes);
    try {
      const run = await local.cli(['verify', sealed]);
      assert.equal(run.code, 1, `${what}: ${run.stdout}${run.stderr}`);
      assert.match(run.stdout, wanted, what);
      told.push(what);
    } finally {
      fs.writeFileSync(file, before);
    }
  };
  const naming = ({ piece, session: id }: Segment): RegExp =>
    new RegExp(`session ${id}, ${piece.replaceAll('.', '\\.')}`);
  await expect('flipped', first.piece, flipped(first.bytes, middle, 1), naming(first));
  await expect('missing', second.piece, undefined, naming(second));
  await expect('cut', first.piece, first.bytes.subarray(0, middle), naming(first));
  await expect('another’s', second.piece, first.bytes, naming(second));
  const good = await local.cli(['verify', sealed]);
  assert.equal(good.code, 0, good.stdout);
  const head = /^head (\d+:[0-9a-f]{64})/m.exec(good.stdout)![1]!;
  // A folder put back as a whole to an earlier state agrees with itself; only a head noted elsewhere tells.
  const [entry, hash] = head.split(':');
  const later = await local.cli(['verify', sealed, '--expect-head', `${Number(entry) + 1}:${hash}`]);
  assert.equal(later.code, 1, later.stdout);
  assert.match(later.stdout, /ROLLEDBACK/);
  return `${told.join(', ')}: exit 1 with session and segment; rolled back: found by the noted head; whole: exit 0`;
}

export const records: CriteriaGroup = {
  name: 'records',
  start,
  criteria: [
    {
      claim: 'a flipped bit anywhere in a sealed segment is found, and session and segment are named',
      check: async () =>
        tally(flips(), ` in ${segments.length} segments (all ${segments[0]!.bytes.length} bytes of the first)`),
    },
    {
      claim: 'a segment that is missing, swapped, repeated, cut off or longer is found and named',
      check: async () => tally(misplaced(), ` on ${segments.length} segments`),
    },
    {
      claim: 'heads that are flipped, cut off, dropped, repeated or swapped are found, and segments without head named',
      check: async () => tally(heads(), ''),
    },
    {
      claim: 'of records a killed gateway left unsealed, a flipped byte or a cut up to its last mark is found',
      check: async () => tally(liveLog(), ''),
    },
    { claim: '`sallyport verify` says the same, with exit code 1', check: byCommand },
  ],
  async stop() {
    if (sealed !== undefined) fs.rmSync(path.dirname(sealed), { recursive: true, force: true });
    await local?.stop();
    await server?.stop();
  },
};

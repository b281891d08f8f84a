import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import {
  filesUnder,
  openTestLog,
  recordFolder,
  shortSession,
  testControllerKey,
  testSigner,
} from '../../../test/support/records.ts';
import { trustedKeyOf } from '../../policy/bundle-signing.ts';
import { rawPublicKey } from '../../recording/signer.ts';
import type { Io } from '../io.ts';
import { auditColumns } from './columns.ts';
import { recordsLs } from './ls.ts';
import { replaySession } from './replay.ts';
import { recordsShow } from './show.ts';
import { sinceTime } from './source.ts';
import { verify } from './verify.ts';

function captured(): Io & { stdout: string; stderr: string } {
  const io = {
    stdout: '',
    stderr: '',
    out(text: string) {
      io.stdout += text;
    },
    err(text: string) {
      io.stderr += text;
    },
    outTty: false,
    errTty: false,
    inTty: false,
    ready: () => Promise.resolve(),
    env: {},
    ask: () => Promise.resolve(false),
    signal: new AbortController().signal,
  };
  return io;
}

test('the verbs about records, on good records and on damaged ones', async (t) => {
  const folder = recordFolder(t);
  const controllerKey = testControllerKey();
  const log = await openTestLog(folder, { signer: testSigner(controllerKey) });
  await shortSession(log, 's-one');
  await shortSession(log, 's-two', 1);
  await log.close();
  const acts: string[] = [];
  const deps = { folder, now: () => Date.now(), noteRead: async ({ act }: { act: string }) => void acts.push(act) };

  const ls = captured();
  assert.equal(await recordsLs({}, ls, deps), 0);
  assert.match(
    ls.stdout,
    /^SESSION +USER .*\ns-one +alice@corp\.example +payments\/orders-db +reader .* ClientClosed +2 +0 +0 +2 +0\ns-two /,
  );
  const names = captured();
  await recordsLs({ user: 'nobody', output: 'name' }, names, deps);
  assert.equal(names.stdout, '');

  const listed = captured();
  assert.equal(await recordsLs({ output: 'json' }, listed, deps), 0);
  const list = JSON.parse(listed.stdout) as { kind: string; items: { session: string }[] };
  assert.deepEqual([list.kind, list.items.map((item) => item.session)], ['List', ['s-one', 's-two']]);
  const empty = captured();
  assert.equal(await recordsLs({ user: 'nobody', output: 'json' }, empty, deps), 0);
  assert.deepEqual(JSON.parse(empty.stdout), { apiVersion: 'v1', kind: 'List', items: [] });

  const story = captured();
  assert.equal(await replaySession({ session: 's-one' }, story, deps), 0);
  assert.match(story.stdout, /#1 SELECT: allowed by payments\/orders-team "read"\n {4}select 1\n/);
  const raw = captured();
  assert.equal(await recordsShow({ session: 's-one' }, raw, deps), 0);
  assert.equal(
    raw.stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { kind: string }).kind)
      .join(),
    'start,command,result,command,result,end',
  );
  for (const [session, message] of [
    ['s-none', 'There is no record of session s-none'],
    ['../\u001b[2J', '../\\u{1b}[2J is no session'],
  ] as const)
    await assert.rejects(replaySession({ session }, captured(), deps), { message, exitCode: 1 });

  const columns = captured();
  assert.equal(await auditColumns({ pattern: 'orders-db/public.cards.number', since: '1h' }, columns, deps), 0);
  assert.match(columns.stderr, /No recorded command read it/);
  const everything = captured();
  assert.equal(await auditColumns({ pattern: '*/*.*.*', output: 'json' }, everything, deps), 0);
  assert.equal((JSON.parse(everything.stdout) as { kind: string }).kind, 'List');
  await assert.rejects(auditColumns({ pattern: 'number' }, captured(), deps), { name: 'CliError', exitCode: 78 });

  const good = captured();
  const root = rawPublicKey(trustedKeyOf(controllerKey).publicKey);
  assert.equal(await verify({ folders: [], root: [root] }, good, deps), 0);
  const head = /head ([0-9]+:[0-9a-f]{64})/.exec(good.stdout)![1]!;
  assert.equal(await verify({ folders: [folder], expectHead: head }, captured(), deps), 0);
  assert.equal(await verify({ folders: [folder], expectHead: `9${head}` }, captured(), deps), 1);
  assert.deepEqual(acts, [
    ...Array<string>(4).fill('ListRecords'),
    'ReplayRecord',
    'ShowRecord',
    'ReplayRecord',
    'AuditColumns',
    'AuditColumns',
  ]);

  const piece = filesUnder(folder).find((name) => name.includes('/s-one.'))!;
  const bytes = fs.readFileSync(`${folder}/${piece}`);
  bytes[500]! ^= 1;
  fs.writeFileSync(`${folder}/${piece}`, bytes);
  const bad = captured();
  assert.equal(await verify({ folders: [] }, bad, deps), 1);
  assert.match(bad.stdout, new RegExp(`CHANGED  session s-one, ${piece}, byte 0: its bytes are not what was signed`));
  await assert.rejects(recordsShow({ session: 's-one' }, captured(), deps), {
    message: 'No record of session s-one can be relied on',
    exitCode: 1,
  });
  fs.unlinkSync(`${folder}/keys.json`);
  await assert.rejects(verify({ folders: [] }, captured(), deps), { message: /holds no keys\.json/, exitCode: 1 });
});

test('times back from now, and dates', () => {
  const now = Date.parse('2026-02-01T00:00:00Z');
  assert.equal(sinceTime('24h', now), '2026-01-31T00:00:00.000Z');
  assert.equal(sinceTime('31d', now), '2026-01-01T00:00:00.000Z');
  assert.equal(sinceTime('2026-01-05', now), '2026-01-05T00:00:00.000Z');
  assert.equal(sinceTime(undefined, now), undefined);
  assert.throws(() => sinceTime('yesterday', now), { name: 'CliError' });
});

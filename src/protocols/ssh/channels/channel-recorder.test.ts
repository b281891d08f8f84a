import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { type MemoryEvent, memoryRecords } from '../../../../test/support/memory-recorder.ts';
import type { OutputBody } from '../../../recording/envelope.ts';
import { manualClock } from '../../../system/manual-clock.ts';
import { type CommandRecorder, createCommandRecorder, type Keeping, TEXT_LIMIT } from './channel-recorder.ts';

const CARD = '4556737586899855';
const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');

async function recorded(keeping: Keeping, play: (recorder: CommandRecorder) => void): Promise<MemoryEvent[]> {
  const records = memoryRecords();
  const record = records.session('s-1');
  play(createCommandRecorder({ record, clock: manualClock(), channel: 3, id: 7, keeping }));
  await new Promise((resolve) => record.whenWritten(resolve));
  return records.of('s-1');
}
const outputs = (events: MemoryEvent[]): OutputBody[] =>
  events.filter(({ kind }) => kind === 'output').map(({ body }) => body as unknown as OutputBody);
const sums = (events: MemoryEvent[]): unknown =>
  (events.at(-1)!.body['facts'] as { ssh: { streams: unknown } }).ssh.streams;

test('INV-06: what passes is counted at once, and what is stored of it never holds a value, whatever the packets', async () => {
  const events = await recorded({ output: 'Terminal', input: 'Length' }, (recorder) => {
    for (const byte of Buffer.from(`card ${CARD} ok\r\n`))
      assert.equal(recorder.passing('terminal', Buffer.of(byte)), false);
    recorder.resized(100, 30);
    recorder.exited({ status: 0 });
    recorder.ended();
    recorder.ended({ code: 'Late', message: 'once is enough' });
  });
  const bodies = outputs(events);
  assert.equal(bodies.length, 26);
  assert.deepEqual(bodies[0], { id: 7, stream: 'terminal', bytes: 1 });
  assert.equal(bodies.map(({ text }) => text ?? '').join(''), `card ${'*'.repeat(16)} ok\r\n`);
  assert.equal(
    bodies.reduce((sum, { bytes }) => sum + bytes, 0),
    26,
  );
  const result = events.at(-1)!;
  assert.deepEqual(
    [result.kind, result.channel, result.body['masked'], result.body['tag']],
    ['result', 3, 1, 'exit 0'],
  );
  assert.deepEqual(events.filter(({ kind }) => kind === 'result').length, 1);
});

test('INV-06: a stream in which something was masked has no digest: the value could be found by trying', async () => {
  const events = await recorded({ output: 'Text', input: 'Text' }, (recorder) => {
    recorder.passing('stdout', Buffer.from(`${CARD}\n`));
    recorder.passing('stderr', Buffer.from('fine\n'));
    recorder.passing('stdin', Buffer.from([0xff, 0x0a]));
    recorder.ended();
  });
  assert.deepEqual(sums(events), {
    stdout: { bytes: 17, masked: 1 },
    stderr: { bytes: 5, sha256: sha256('fine\n') },
    stdin: { bytes: 2, sha256: sha256(Buffer.from([0xff, 0x0a])) },
  });
  assert.equal(outputs(events)[2]!.base64, '/wo=');
  assert.ok(!JSON.stringify(events).includes(CARD));
});

test('INV-05: of what may be a password only the length is kept', async () => {
  const events = await recorded({ output: 'Text', input: 'Length' }, (recorder) => {
    assert.equal(recorder.passing('stdin', Buffer.from('hunter2\n')), true);
    recorder.ended();
  });
  assert.deepEqual(sums(events), { stdin: { bytes: 8 } });
  assert.deepEqual(outputs(events), []);
});

test('text is kept up to its limit, a digest of all of it', async () => {
  const line = Buffer.from('0123456789abcde\n'.repeat(2048));
  const whole = createHash('sha256');
  const events = await recorded({ output: 'Text', input: 'Digest' }, (recorder) => {
    for (let index = 0; index < 40; index += 1) {
      whole.update(line);
      assert.equal(recorder.passing('stdout', line), index >= 32);
      assert.equal(recorder.passing('stdin', line), true);
    }
    recorder.ended();
  });
  const stored = outputs(events);
  assert.equal(
    stored.reduce((sum, { text }) => sum + (text ?? '').length, 0),
    TEXT_LIMIT,
  );
  const sha = whole.digest('hex');
  assert.deepEqual(sums(events), {
    stdout: { bytes: 40 * line.length, sha256: sha, kept: TEXT_LIMIT },
    stdin: { bytes: 40 * line.length, sha256: sha },
  });
});

test('what is withheld at the end is stored before the result; what the gateway says is marked as its own', async () => {
  const events = await recorded({ output: 'Terminal', input: 'Length' }, (recorder) => {
    recorder.passing('terminal', Buffer.from('deploy@web'));
    recorder.own('terminal', 'Sallyport: the grant ended.\r\n');
    recorder.ended({ code: 'Revoked', message: 'the grant ended' });
    assert.equal(recorder.passing('terminal', Buffer.from('late')), true);
  });
  assert.deepEqual(outputs(events), [
    { id: 7, stream: 'terminal', bytes: 10 },
    { id: 7, stream: 'terminal', text: 'Sallyport: the grant ended.\r\n', bytes: 29, own: true },
    { id: 7, stream: 'terminal', text: 'deploy@web', bytes: 0 },
  ]);
  assert.equal(events.at(-1)!.kind, 'result');
});

test('last words stand behind all that was shown before them, also behind what was withheld; others do not tear a value', async () => {
  const events = await recorded({ output: 'Terminal', input: 'Length' }, (recorder) => {
    recorder.passing('terminal', Buffer.from(`card ${CARD.slice(0, 8)}`));
    recorder.own('terminal', '[notice]');
    recorder.passing('terminal', Buffer.from(`${CARD.slice(8)} root@web1:~# `));
    recorder.passing('terminal', Buffer.from('vi'));
    recorder.own('terminal', '[the end]', 'last');
    recorder.ended({ code: 'Expired', message: 'x' }, 12);
  });
  const shown = outputs(events)
    .map(({ text }) => text ?? '')
    .join('');
  assert.ok(shown.endsWith('root@web1:~# vi[the end]'), shown);
  assert.ok(shown.includes('*'.repeat(16)) && shown.includes('[notice]'));
  assert.deepEqual((events.at(-1)!.body['facts'] as { ssh: { undelivered: number } }).ssh.undelivered, 12);
});

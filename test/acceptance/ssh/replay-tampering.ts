// Changes to record files of SSH, sealed and live: each must be found, by name of the piece, and the command says so too.
import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { keyIdOf, type TrustedKey } from '../../../src/policy/bundle-signing.ts';
import { NotARecordFolder } from '../../../src/recording/store-view.ts';
import { verifyRecords } from '../../../src/recording/verify.ts';
import { onTerminal } from '../../support/ssh-replay.ts';
import { type SshScene, startSshScene } from '../../support/ssh-scene.ts';
import { trials } from '../criterion.ts';

/** Of each kind in each file. */
const PLACES = trials(12);

interface Change {
  kind: 'flip' | 'cut' | 'drop' | 'insert' | 'exchange';
  /** undefined: the file is gone. */
  bytes: Buffer | undefined;
  what: string;
}

/** On a scene of its own: each of hundreds of changes is followed by a look at all records. */
export async function changesFound(): Promise<string> {
  const scene = await startSshScene({ web: '  - {name: all, action: Allow}' });
  try {
    await scene.request('web');
    return await changesFoundIn(scene);
  } finally {
    await scene.stop();
  }
}

async function changesFoundIn(scene: SshScene): Promise<string> {
  const { local } = scene;
  await onTerminal(scene, ['printf "\\033[31mred\\033[0m\\n"; ls /'], []);
  await scene.ssh(['web', 'wc -c; echo to stderr >&2'], { input: 'text of an exec\n' });
  const folder = fs.mkdtempSync(path.join(fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'sallyport-changes-'));
  try {
    const records = path.join(local.state, 'records');
    // A mark that is gone is missed in a live log of more than ten seconds.
    await new Promise((resolve) => setTimeout(resolve, 11_000));
    // What a gateway left behind that was killed, and what one did that ended well.
    await onTerminal(scene, ['echo live'], []);
    // The mark, written each second, names what is there by now.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    await local.kill();
    fs.cpSync(records, path.join(folder, 'killed'), { recursive: true });
    await local.start();
    process.kill(local.pid, 'SIGTERM');
    for (let tries = 0; fs.readdirSync(path.join(records, 'live')).length > 0; tries += 1) {
      assert.ok(tries < 600, 'the daemon did not end');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    fs.cpSync(records, path.join(folder, 'ended'), { recursive: true });
    await local.kill().catch(() => undefined);
    await local.start();

    const publicKey = createPublicKey(fs.readFileSync(path.join(local.state, 'pki/operator.pub')));
    const roots = [{ keyId: keyIdOf(publicKey), publicKey }];
    const tried: Record<Change['kind'], number> = { flip: 0, cut: 0, drop: 0, insert: 0, exchange: 0 };
    const missed: string[] = [];
    const byCommand = new Map<string, Change & { store: string; piece: string }>();
    let files = 0;
    for (const store of ['ended', 'killed']) {
      const root = path.join(folder, store);
      assert.deepEqual(verifyRecords(root, { roots }).findings, [], store);
      const pieces = piecesOf(root, store === 'killed');
      files += pieces.length;
      for (const [place, piece] of pieces.entries()) {
        const file = path.join(root, piece);
        const before = fs.readFileSync(file);
        const other = fs.readFileSync(path.join(root, pieces[(place + 1) % pieces.length]!));
        for (const change of changesOf(piece, before, other)) {
          tried[change.kind] += 1;
          byCommand.set(`${store} ${change.kind} ${path.extname(piece) || path.basename(piece)}`, {
            ...change,
            store,
            piece,
          });
          put(file, change.bytes);
          if (!isFound(root, roots)) missed.push(`${store}: ${change.what}`);
        }
        put(file, before);
      }
      assert.deepEqual(verifyRecords(root, { roots }).findings, [], `${store}, put right again`);
    }
    assert.equal(missed.length, 0, `${missed.length} were not found: ${missed.slice(0, 5).join('; ')}`);

    for (const { store, piece, bytes, what } of byCommand.values()) {
      const file = path.join(folder, store, piece);
      const before = fs.readFileSync(file);
      put(file, bytes);
      const run = await local.cli(['verify', path.join(folder, store)]);
      put(file, before);
      assert.equal(run.code, 1, `${what}: ${run.output}`);
    }
    const good = await local.cli(['verify', path.join(folder, 'ended')]);
    assert.equal(good.code, 0, good.output);
    const counts = Object.entries(tried).map(([kind, count]) => `${count} ${kind}s`);
    return `${counts.join(', ')} in ${files} files, all found; ${byCommand.size} by the command, exit 1; untouched: exit 0`;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** Without its keys nothing proves anything: that is told as an error, and the command ends with 1 as well. */
function isFound(root: string, roots: readonly TrustedKey[]): boolean {
  try {
    return verifyRecords(root, { roots }).findings.length > 0;
  } catch (error) {
    if (error instanceof NotARecordFolder) return true;
    throw error;
  }
}

/** At most eight segments; all of the rest but the lock, which says nothing. */
function piecesOf(root: string, isLiveOnly: boolean): string[] {
  const names = fs
    .readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => fs.statSync(path.join(root, name)).isFile() && !name.includes('lock'))
    .sort();
  const segments = names.filter((name) => name.endsWith('.seg'));
  const step = Math.max(1, Math.floor(segments.length / 8));
  return [
    ...(isLiveOnly ? [] : segments.filter((_, index) => index % step === 0).slice(0, 8)),
    ...names.filter((name) => !name.endsWith('.seg') && (!isLiveOnly || name.startsWith('live/'))),
  ];
}

function put(file: string, bytes: Buffer | undefined): void {
  if (bytes === undefined) fs.rmSync(file);
  else fs.writeFileSync(file, bytes);
}

function* changesOf(piece: string, bytes: Buffer, other: Buffer): Generator<Change> {
  const at = (index: number): number => Math.floor((bytes.length * (2 * index + 1)) / (2 * PLACES));
  for (let index = 0; index < PLACES; index += 1) {
    const place = at(index);
    const flipped = Buffer.from(bytes);
    flipped[place]! ^= 1 << (index % 7);
    yield { kind: 'flip', bytes: flipped, what: `${piece}: byte ${place} flipped` };
    yield { kind: 'cut', bytes: bytes.subarray(0, place), what: `${piece}: cut off at ${place}` };
    const more = Buffer.concat([bytes.subarray(0, place), Buffer.from('x'), bytes.subarray(place)]);
    yield { kind: 'insert', bytes: more, what: `${piece}: a byte more at ${place}` };
    const swapped = Buffer.from(bytes);
    const [left, right] = [place, (place + Math.floor(bytes.length / 2)) % bytes.length];
    [swapped[left], swapped[right]] = [swapped[right]!, swapped[left]!];
    if (!swapped.equals(bytes))
      yield { kind: 'exchange', bytes: swapped, what: `${piece}: bytes ${left}, ${right} swapped` };
  }
  if (!other.equals(bytes)) yield { kind: 'exchange', bytes: other, what: `${piece}: another file in its place` };
  // Behind what its mark names, a live file ends as a killed gateway left it: half a batch is no change.
  if (!piece.startsWith('live/'))
    yield { kind: 'insert', bytes: Buffer.concat([bytes, Buffer.from('\n')]), what: `${piece}: a line end more` };
  yield { kind: 'drop', bytes: undefined, what: `${piece}: gone` };
}

// Leader election between real processes on a real API server.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type ControlPlane, skipWithoutCluster, startControlPlane } from '../support/cluster/control-plane.ts';
import { until } from '../support/cluster/until.ts';

const skip = await skipWithoutCluster();
let plane: ControlPlane;
const children: ChildProcess[] = [];
interface Elector {
  process: ChildProcess;
  lines: { at: bigint; text: string }[];
  epochs(): number[];
  leads(): boolean;
}
function elector(name: string): Elector {
  const child = spawn(
    process.execPath,
    [
      path.resolve(import.meta.dirname, '../support/cluster/elector.ts'),
      plane.server,
      plane.token(),
      path.join(plane.folder, 'ca.crt'),
      name,
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  children.push(child);
  const lines: Elector['lines'] = [];
  let rest = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (chunk: string) => {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) {
      const space = part.indexOf(' ');
      lines.push({ at: BigInt(part.slice(0, space)), text: part.slice(space + 1) });
    }
  });
  return {
    process: child,
    lines,
    epochs: () => lines.flatMap(({ text }) => (text.startsWith('acquired ') ? [Number(text.slice(9))] : [])),
    leads: () => lines.findLast(({ text }) => text !== 'held')?.text.startsWith('acquired') === true,
  };
}
/** Whether any two said at overlapping times that they hold it. */
function overlaps(electors: readonly Elector[]): boolean {
  const said = electors
    .flatMap(({ lines }, index) => lines.map(({ at, text }) => ({ at, text, index })))
    .sort((a, b) => (a.at < b.at ? -1 : 1));
  // Between an `acquired` of one and its next, no other may say `held` after the one said it first.
  let holder = -1;
  const passed = new Set<number>();
  for (const { text, index } of said) {
    if (text.startsWith('acquired')) {
      if (holder !== -1 && holder !== index) passed.add(holder);
      passed.delete(index);
      holder = index;
    } else if (text === 'held' && passed.has(index)) return true;
  }
  return false;
}

before(async () => {
  if (skip === false) plane = await startControlPlane();
});
after(async () => {
  for (const child of children) {
    child.kill('SIGCONT');
    child.kill('SIGKILL');
  }
  await plane?.stop();
});

test('INV-10: a leader that is stopped and goes on later never leads beside its successor', { skip }, async () => {
  const one = elector('one');
  await until(() => one.leads());
  const two = elector('two');
  await until(() => one.lines.filter(({ text }) => text === 'held').length > 20);
  assert.ok(!two.leads());
  one.process.kill('SIGSTOP');
  await until(() => two.leads());
  one.process.kill('SIGCONT');
  await until(() => one.lines.at(-1)?.text === 'lost');
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.ok(two.leads() && !one.leads());
  assert.ok(!overlaps([one, two]));
  assert.ok(two.epochs()[0]! > one.epochs()[0]!);

  // An orderly end gives it back: the other does not wait for it to run out, and nothing overlaps either.
  two.process.kill('SIGTERM');
  await until(() => one.leads());
  assert.ok(one.epochs()[1]! > two.epochs()[0]!);

  // A killed leader's lease runs out.
  const three = elector('three');
  one.process.kill('SIGKILL');
  await until(() => three.leads());
  assert.ok(three.epochs()[0]! > one.epochs()[1]!);

  // Without an API server nobody leads; with it somebody does again.
  await plane.killApiServer();
  await until(() => !three.leads());
  await plane.startApiServer();
  await until(() => three.leads());
  assert.ok(!overlaps([one, two, three]));
  const lease = await plane.kubectl([
    'get',
    'lease',
    '-n',
    'default',
    'sallyport',
    '-o',
    'jsonpath={.spec.holderIdentity}',
  ]);
  assert.match(lease.stdout, /^three_/);
});

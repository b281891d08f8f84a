// A session that writes much more than anybody reads: what the gateway, a follower and a player hold of it in memory.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import { SALLYPORT } from '../../support/local.ts';
import { sessionsOf } from '../../support/ssh-replay.ts';
import type { SshScene } from '../../support/ssh-scene.ts';

const MEGABYTES = Number(process.env.ACCEPT_MB ?? 64);
/** Of a process that reads or writes records, whatever the session's length. */
const MOST_MB = 400;

export async function longSession(scene: SshScene): Promise<string> {
  const known = new Set(await sessionsOf(scene));
  const before = residentMb(scene.local.pid);
  const writer = scene.spawn([
    '-tt',
    'web',
    `yes 'line of text that nobody reads, with a little colour \u001b[32mgreen\u001b[0m in it' | head -c ${MEGABYTES}000000`,
  ]);
  writer.stdout!.resume();
  writer.stderr!.resume();
  let session: string | undefined;
  const deadline = Date.now() + 60_000;
  while (session === undefined) {
    assert.ok(Date.now() < deadline, 'no session began');
    session = (await sessionsOf(scene)).find((name) => !known.has(name));
  }
  const follower = drained(scene, ['replay', session, '--play', '--follow']);
  const gateway = peakOf(scene.local.pid);
  const code = await new Promise<number | null>((resolve) => writer.once('close', resolve));
  assert.equal(code, 0, 'ssh');
  const followed = await follower;
  const gatewayMb = gateway.stop();
  const played = await drained(scene, ['replay', session, '--play', '--speed', '1000', '--max-pause', '0']);
  const cast = await drained(scene, ['replay', session, '--asciicast']);
  const bytes = MEGABYTES * 1e6;
  for (const [what, run] of Object.entries({ followed, played, cast })) {
    assert.equal(run.code, 0, what);
    // Line feeds became CR LF, so it is a little more.
    assert.ok(run.bytes >= bytes, `${what}: ${run.bytes} bytes`);
    assert.ok(run.peakMb < MOST_MB, `${what}: ${run.peakMb} MB`);
  }
  assert.ok(gatewayMb < MOST_MB, `gateway: ${gatewayMb} MB`);
  return `${MEGABYTES} MB on a terminal: gateway ${before} MB before, ${gatewayMb} MB at most; followed live ${followed.peakMb} MB, played ${played.peakMb} MB, asciicast ${cast.peakMb} MB`;
}

/** Runs the command and throws its output away. */
async function drained(
  scene: SshScene,
  args: readonly string[],
): Promise<{ code: number | null; bytes: number; peakMb: number }> {
  const child: ChildProcess = spawn(SALLYPORT, args, { env: scene.env, stdio: ['ignore', 'pipe', 'ignore'] });
  const peak = peakOf(child.pid!);
  let bytes = 0;
  child.stdout!.on('data', (data: Buffer) => (bytes += data.length));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, bytes, peakMb: peak.stop() };
}

/** Looks each 100 ms; after the end there is nothing to look at. */
function peakOf(pid: number): { stop(): number } {
  let most = 0;
  const timer = setInterval(() => (most = Math.max(most, residentMb(pid))), 100);
  return {
    stop() {
      clearInterval(timer);
      return most;
    },
  };
}

function residentMb(pid: number): number {
  try {
    const kilobytes = /^VmRSS:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Math.round(Number(kilobytes ?? 0) / 1024);
  } catch {
    return 0;
  }
}

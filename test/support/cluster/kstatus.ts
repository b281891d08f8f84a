// What Flux, kpt and others make of an object's status: sigs.k8s.io/cli-utils/pkg/kstatus itself, a Go module, built once
// from the pins in test/cluster/kstatus into the cache (seconds).
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const SOURCES = path.resolve(import.meta.dirname, '../../cluster/kstatus');

export interface Verdict {
  status: 'Current' | 'InProgress' | 'Failed' | 'Terminating' | 'NotFound' | 'Unknown';
  message: string;
}

/** Its version, and one verdict an object, in their order. Throws where there is no Go. */
export async function kstatus(objects: readonly object[]): Promise<{ version: string; verdicts: Verdict[] }> {
  const pins = createHash('sha256');
  for (const file of fs.readdirSync(SOURCES).sort()) pins.update(fs.readFileSync(path.join(SOURCES, file)));
  const cache =
    process.env['SALLYPORT_CACHE'] ??
    path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'sallyport');
  const program = path.join(cache, `kstatus-${pins.digest('hex').slice(0, 12)}`);
  if (!fs.existsSync(program)) {
    fs.mkdirSync(cache, { recursive: true });
    const temporary = `${program}.${process.pid}`;
    await promisify(execFile)('go', ['build', '-mod=readonly', '-trimpath', '-buildvcs=false', '-o', temporary, '.'], {
      cwd: SOURCES,
      env: { ...process.env, CGO_ENABLED: '0', GOWORK: 'off' },
    });
    fs.renameSync(temporary, program);
  }
  const version = /cli-utils (v\S+)/.exec(fs.readFileSync(path.join(SOURCES, 'go.mod'), 'utf8'))![1]!;
  const answer = execFileSync(program, { input: JSON.stringify(objects), encoding: 'utf8' });
  return { version, verdicts: JSON.parse(answer) as Verdict[] };
}

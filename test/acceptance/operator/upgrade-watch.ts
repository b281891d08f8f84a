// What people notice of an upgrade, second by second.
import { setTimeout as pause } from 'node:timers/promises';
import { NAMESPACE, run, type Scene } from '../../e2e/scene.ts';
import type { Pod } from './life-bed.ts';

export interface Watched {
  logins: { count: number; failures: string[] };
  admission: { count: number; failures: string[] };
  /** By pod uid: Unix seconds at which it was told to go. */
  deletedAt: Map<string, number>;
}

/** New logins by both ways, dry-run requests, and when pods are told to go; about one of each a second. */
export function watchUpgrade(scene: Scene, tunnelDsn: string, podDsn: string): { stop(): Promise<Watched> } {
  const watched: Watched = {
    logins: { count: 0, failures: [] },
    admission: { count: 0, failures: [] },
    deletedAt: new Map(),
  };
  let stopped = false;
  const loop = async (everyMs: number, act: () => Promise<void>): Promise<void> => {
    while (!stopped) {
      const began = performance.now();
      await act();
      await pause(Math.max(100, everyMs - (performance.now() - began)));
    }
  };
  const stamp = (): string => new Date().toISOString().slice(11, 19);
  const login = (how: string, run: () => Promise<string>) => async (): Promise<void> => {
    watched.logins.count += 1;
    const why = await run();
    if (why !== '') watched.logins.failures.push(`${stamp()} ${how}: ${why.trim()}`);
  };
  const grant = JSON.stringify({
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'AccessGrant',
    metadata: { generateName: 'try-', namespace: NAMESPACE },
    spec: { connectionRef: { name: 'pair' }, duration: '1h', reason: 'a try' },
  });
  const loops = [
    loop(
      1_500,
      login('tunnel', async () => (await run('psql', [tunnelDsn, '-X', '-A', '-t', '-c', 'select 1'])).stderr),
    ),
    loop(
      1_500,
      login('Service', () =>
        scene
          .inNamespace(
            'exec',
            'client-1',
            '--',
            'sh',
            '-c',
            `cat > /dev/null; psql "$1" -X -A -t -c 'select 1' 2>&1 > /dev/null; true`,
            'login',
            podDsn,
          )
          .catch(String),
      ),
    ),
    loop(700, async () => {
      watched.admission.count += 1;
      await scene.cluster
        .kubectl(['create', '--dry-run=server', '-f', '-'], { user: 'alice', input: grant })
        .catch((error: unknown) => {
          watched.admission.failures.push(`${stamp()} ${String(error)}`);
        });
    }),
    loop(1_000, async () => {
      const text = await scene
        .inNamespace('get', 'pods', '-l', 'sallyport.dev/workload=sallyport-pair', '-o', 'json')
        .catch(() => '{"items":[]}');
      for (const { metadata } of (JSON.parse(text) as { items: Pod[] }).items)
        if (metadata.deletionTimestamp !== undefined)
          watched.deletedAt.set(
            metadata.uid,
            Date.parse(metadata.deletionTimestamp) / 1000 - (metadata.deletionGracePeriodSeconds ?? 0),
          );
    }),
  ];
  return {
    async stop() {
      stopped = true;
      await Promise.all(loops);
      return watched;
    },
  };
}

// Whether each target can be logged in to, with the first account of its Connection: asked when the Connection or the
// mounted Secret changes, and every five minutes. An answer that says the same as the one before keeps its time, so that
// nothing is written about it.
import type { ProxyReplicaSpec } from '../api/replica.ts';
import type { DialGuard } from '../gateway/dial-guard.ts';
import type { GatewayConnection } from '../gateway/gateway.ts';
import { fraction } from '../kube/backoff.ts';
import { credentialOf, hostsOf } from '../protocols/credential.ts';
import type { ConnectionKeys, ProbeResult, Protocol } from '../protocols/protocol.ts';
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';
import type { MountedCredentials } from './credentials.ts';

export type TargetReport = NonNullable<NonNullable<ProxyReplicaSpec['connections']>[number]['target']>;

const LOOK_EVERY_MS = 10_000;
const GOOD_FOR_MS = 300_000;
const BAD_FOR_MS = 60_000;
const PROBE_MS = 10_000;
const LONGEST = 1_000;

export interface ProbesOptions {
  protocols: readonly Protocol[];
  credentials: MountedCredentials;
  dialGuard: DialGuard;
  connections(): Iterable<GatewayConnection>;
  /** Of Connections whose protocol has keys of its own. */
  keysFor(connectionUid: string): ConnectionKeys | undefined;
  onChange(): void;
  clock: Clock;
  random: Random;
}

export interface Probes {
  of(connectionUid: string): TargetReport | undefined;
  /** Connections changed: looks at once. */
  look(): void;
  stop(): Promise<void>;
}

export function startProbes(options: ProbesOptions): Probes {
  const { clock, random } = options;
  const stopping = new AbortController();
  const known = new Map<string, { version: string; dueAt: number; report: TargetReport | undefined }>();
  let cancel = (): void => {};
  let round: Promise<void> | undefined;
  let again = false;

  async function look(): Promise<void> {
    const seen = new Set<string>();
    for (const connection of options.connections()) {
      if (stopping.signal.aborted) return;
      seen.add(connection.uid);
      const secret = connection.spec.accounts[0]?.secretRef?.name ?? '';
      const hasKeys = options.keysFor(connection.uid) !== undefined;
      const version = `${JSON.stringify(connection.spec)} ${await options.credentials.version(secret)} ${hasKeys}`;
      const entry = known.get(connection.uid);
      if (entry?.version === version && clock.monotonic() < entry.dueAt) continue;
      const result = await probe(connection);
      if (stopping.signal.aborted) return;
      const goodFor = result.kind === 'Reachable' ? GOOD_FOR_MS : BAD_FOR_MS;
      const report = reportOf(result, entry?.report, clock.now());
      known.set(connection.uid, {
        version,
        dueAt: clock.monotonic() + goodFor * (0.8 + 0.4 * fraction(random)),
        report,
      });
      if (report !== entry?.report) options.onChange();
    }
    for (const uid of known.keys()) if (!seen.has(uid)) known.delete(uid);
  }

  async function probe(connection: GatewayConnection): Promise<ProbeResult> {
    const protocol = options.protocols.find(({ type }) => type === connection.spec.type);
    const account = connection.spec.accounts[0];
    if (protocol === undefined || account === undefined)
      return { kind: 'Failed', reason: `No protocol serves type ${connection.spec.type}.`, hint: 'Upgrade the proxy.' };
    const keys = protocol.ownKeys === undefined ? undefined : options.keysFor(connection.uid);
    if (protocol.ownKeys !== undefined && keys === undefined)
      return { kind: 'Failed', reason: 'The operator has not handed the keys of its listener yet.', hint: '' };
    try {
      const credential = await credentialOf(options.credentials, connection, account);
      return await protocol.probe({
        connection,
        account: account.name,
        credential,
        keys,
        dial: (target, signal) => options.dialGuard.dial(target, hostsOf(credential, target), signal),
        signal: AbortSignal.any([stopping.signal, AbortSignal.timeout(PROBE_MS)]),
      });
    } catch (error) {
      return { kind: 'Failed', reason: error instanceof Error ? error.message : String(error), hint: '' };
    }
  }

  function begin(): void {
    if (stopping.signal.aborted) return;
    if (round !== undefined) {
      again = true;
      return;
    }
    cancel();
    again = false;
    round = look().finally(() => {
      round = undefined;
      if (again) begin();
      else if (!stopping.signal.aborted) cancel = clock.after(LOOK_EVERY_MS, begin);
    });
  }
  begin();

  return {
    of: (uid) => known.get(uid)?.report,
    look: begin,
    async stop() {
      stopping.abort();
      cancel();
      await round;
    },
  };
}

/** The same answer again is the same report, with the time of the first. */
export function reportOf(result: ProbeResult, before: TargetReport | undefined, nowMs: number): TargetReport {
  const reachable = result.kind === 'Reachable';
  const message = (reachable ? result.version : result.reason).slice(0, LONGEST);
  const hint = reachable || result.hint === '' ? undefined : result.hint.slice(0, LONGEST);
  if (before?.reachable === reachable && before.message === message && before.hint === hint) return before;
  const at = new Date(nowMs).toISOString().replace(/\.\d+Z$/, 'Z');
  return { reachable, message, ...(hint === undefined ? {} : { hint }), at };
}

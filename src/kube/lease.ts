// Leader election on a Lease (coordination.k8s.io/v1), compatible with client-go's: 15 s, 10 s, 2 s.
// Guarantees, with clocks that run at about the same speed (their times may differ by hours): the holder is told that it
// lost, and `held()` is false, before another may start; a process that was stopped and continued finds itself without
// the lease before it acts; the epoch rises with every acquisition. A write that was sent before the loss may still
// arrive: fence it (a bundle's epoch does).
import type { Clock } from '../system/clock.ts';
import { type Random, randomUid } from '../system/random.ts';
import { fraction, sleep } from './backoff.ts';
import type { KubeClient } from './client.ts';
import type { KubeLog } from './log.ts';
import { LEASES, resourcePath } from './paths.ts';

export interface LeaseOptions {
  client: KubeClient;
  namespace: string;
  name: string;
  /** Who this is; made unique. A pod's name. */
  identity: string;
  clock: Clock;
  random: Random;
  log: KubeLog;
  /** Others take over when nothing was heard of the holder for so long. Default 15 s. */
  durationMs?: number;
  /** The holder gives up when it could not renew for so long; less than `durationMs`. Default 10 s. */
  renewDeadlineMs?: number;
  /** Default 2 s. */
  retryMs?: number;
  /** The lease is held from now. `signal` fires when it is lost. Must not throw. */
  onAcquired(epoch: number, signal: AbortSignal): void;
  /** The lease is lost; resolves once nothing acts any more. Only then is it contended for again, or released. */
  onLost(): void | Promise<void>;
}

export interface LeaderElection {
  readonly identity: string;
  /** Whether the lease is held at this instant, by this process' own clocks. Cheap: ask before each act. */
  held(): boolean;
  /** Whoever was last seen to hold it. */
  holder(): string | undefined;
  /** Ends; a held lease is given back after `onLost`, so that another starts at once. */
  stop(): Promise<void>;
}

export const EPOCH_ANNOTATION = 'sallyport.dev/epoch';

interface Lease {
  apiVersion: 'coordination.k8s.io/v1';
  kind: 'Lease';
  metadata: { name: string; namespace: string; resourceVersion?: string; annotations?: Record<string, string> };
  spec?: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
}

const REQUEST_MS = 4000;

export function startLeaderElection(options: LeaseOptions): LeaderElection {
  const { client, clock, random, log } = options;
  const durationMs = options.durationMs ?? 15_000;
  const renewDeadlineMs = options.renewDeadlineMs ?? 10_000;
  const retryMs = options.retryMs ?? 2000;
  if (!(retryMs < renewDeadlineMs && renewDeadlineMs < durationMs)) throw new TypeError('retry < renew < duration');
  const identity = `${options.identity}_${randomUid(random)}`;
  const path = resourcePath(LEASES, { namespace: options.namespace, name: options.name });
  const listPath = resourcePath(LEASES, { namespace: options.namespace });
  const stopping = new AbortController();

  /** The last seen record, and when it was first seen: others' times are never compared with our clock. */
  let seen: { lease: Lease; version: string; atMs: number } | undefined;
  /** Set while held. */
  let holding: { epoch: number; renewedMono: number; renewedWall: number; lost: AbortController } | undefined;

  const observe = (lease: Lease): void => {
    const version = lease.metadata.resourceVersion ?? '';
    if (seen?.version !== version) seen = { lease, version, atMs: clock.monotonic() };
  };

  const held = (): boolean => {
    if (holding === undefined || holding.lost.signal.aborted) return false;
    // A machine that slept may count that in one of the clocks only.
    return (
      clock.monotonic() - holding.renewedMono < renewDeadlineMs && clock.now() - holding.renewedWall < renewDeadlineMs
    );
  };

  const micro = (ms: number): string => `${new Date(ms).toISOString().slice(0, -1)}000Z`;

  /** One attempt. `mono`, `wall`: from when the lease counts, the moment before the write was sent. */
  const attempt = async (
    signal?: AbortSignal,
  ): Promise<{ kind: 'Held'; epoch: number; mono: number; wall: number } | { kind: 'NotHeld' }> => {
    const call = { deadlineMs: REQUEST_MS, signal };
    // A renewal goes straight to the write; only who does not know the record reads it.
    if (holding === undefined || seen === undefined) {
      const answer = await client.get<Lease>(path, call);
      if (answer.kind === 'Ok') observe(answer.value);
      else if (answer.status === 404) seen = undefined;
      else throw new Error(`${answer.status} ${answer.reason}: ${answer.message}`);
    }
    const now = clock.now();
    const spec = seen?.lease.spec ?? {};
    const ours = spec.holderIdentity === identity;
    if (seen !== undefined && !ours && spec.holderIdentity !== undefined && spec.holderIdentity !== '') {
      // The holder's own duration counts: it may be configured longer than ours.
      const lastsMs = Math.max(durationMs, (spec.leaseDurationSeconds ?? 0) * 1000);
      if (clock.monotonic() - seen.atMs < lastsMs) return { kind: 'NotHeld' };
    }
    const stored = Number(seen?.lease.metadata.annotations?.[EPOCH_ANNOTATION] ?? 0);
    const epoch =
      holding?.epoch ?? Math.max((Number.isSafeInteger(stored) ? stored : 0) + 1, Math.floor(clock.now() / 1000));
    const acquired = holding !== undefined && ours;
    const next: Lease = {
      ...(seen?.lease ?? { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' }),
      metadata: {
        ...(seen?.lease.metadata ?? { name: options.name, namespace: options.namespace }),
        annotations: { ...seen?.lease.metadata.annotations, [EPOCH_ANNOTATION]: String(epoch) },
      },
      spec: {
        ...spec,
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(durationMs / 1000),
        acquireTime: acquired && spec.acquireTime !== undefined ? spec.acquireTime : micro(now),
        renewTime: micro(now),
        leaseTransitions: (spec.leaseTransitions ?? 0) + (acquired || seen === undefined ? 0 : 1),
      },
    };
    const mono = clock.monotonic();
    const answer =
      seen === undefined
        ? await client.create<Lease>(listPath, next, call)
        : await client.replace<Lease>(path, next, call);
    if (answer.kind === 'Ok') {
      observe(answer.value);
      return { kind: 'Held', epoch, mono, wall: now };
    }
    if (answer.status !== 409 && answer.status !== 404)
      throw new Error(`${answer.status} ${answer.reason}: ${answer.message}`);
    // Somebody else wrote it, or an answer to us was lost: look who holds it before the next attempt.
    const latest = await client.get<Lease>(path, call);
    if (latest.kind === 'Ok') observe(latest.value);
    else if (latest.status === 404) seen = undefined;
    return { kind: 'NotHeld' };
  };

  /** Holds until lost or stopped. */
  const lead = async (first: { epoch: number; mono: number; wall: number }): Promise<void> => {
    const lost = new AbortController();
    holding = { epoch: first.epoch, renewedMono: first.mono, renewedWall: first.wall, lost };
    log('info', 'leading', { lease: options.name, identity, epoch: first.epoch });
    const ending = AbortSignal.any([lost.signal, stopping.signal]);
    let cancel: () => void = () => undefined;
    const arm = (): void => {
      cancel();
      cancel = clock.after(renewDeadlineMs - (clock.monotonic() - holding!.renewedMono), () =>
        lost.abort(new Error('the lease could not be renewed in time')),
      );
    };
    arm();
    let under: Promise<void> = Promise.resolve();
    options.onAcquired(first.epoch, lost.signal);
    while (!ending.aborted) {
      await sleep(clock, retryMs, ending);
      if (ending.aborted) break;
      if (!held()) {
        lost.abort(new Error('the lease ran out while this process did not run'));
        break;
      }
      under = attempt(lost.signal)
        .then((result) => {
          // Held again, but only as long as it was never given up in between.
          if (result.kind === 'Held' && holding !== undefined && held()) {
            holding.renewedMono = result.mono;
            holding.renewedWall = result.wall;
            arm();
          } else if (seen?.lease.spec?.holderIdentity !== identity) {
            lost.abort(new Error('another holds the lease'));
          }
        })
        .catch((error: unknown) => {
          log('warn', 'the lease could not be renewed; it is tried again', {
            lease: options.name,
            error: String(error),
          });
        });
      // Giving up waits for no answer.
      await settledOr(under, lost.signal);
    }
    cancel();
    lost.abort(new Error('stopped'));
    holding = undefined;
    log(stopping.signal.aborted ? 'info' : 'error', 'no longer leading', {
      lease: options.name,
      reason: (lost.signal.reason as Error).message,
    });
    try {
      await options.onLost();
    } catch (error) {
      log('error', 'giving up the lead failed', { lease: options.name, error: String(error) });
    }
    await under;
  };

  const release = async (): Promise<void> => {
    if (seen?.lease.spec?.holderIdentity !== identity) return;
    const { lease } = seen;
    const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: micro(clock.now()) };
    try {
      // With its version: whoever took it meanwhile keeps it.
      await client.replace(path, { ...lease, spec }, { deadlineMs: REQUEST_MS });
    } catch (error) {
      log('warn', 'the lease could not be given back; it runs out', { lease: options.name, error: String(error) });
    }
  };

  /** Until the next attempt: a look now and then, and one when the lease of whoever holds it runs out. */
  const pause = (): number => {
    const usual = retryMs * (1 + 0.25 * fraction(random));
    const { holderIdentity, leaseDurationSeconds = 0 } = seen?.lease.spec ?? {};
    if (seen === undefined || holderIdentity === undefined || holderIdentity === '') return usual;
    const leftMs = seen.atMs + Math.max(durationMs, leaseDurationSeconds * 1000) - clock.monotonic();
    return leftMs <= 0 ? usual : Math.min(usual, leftMs + 0.1 * retryMs * fraction(random));
  };

  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        const result = await attempt();
        if (result.kind === 'Held') {
          if (clock.monotonic() - result.mono < renewDeadlineMs) await lead(result);
          if (stopping.signal.aborted) break;
        }
      } catch (error) {
        log('warn', 'the lease could not be had; it is tried again', { lease: options.name, error: String(error) });
      }
      await sleep(clock, pause(), stopping.signal);
    }
    await release();
  };
  const running = run().catch((error: unknown) => log('error', 'leader election failed', { error: String(error) }));

  return {
    identity,
    held,
    holder: () => seen?.lease.spec?.holderIdentity || undefined,
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** Resolves with the first of both; leaves nothing behind at a signal that lives for months. */
async function settledOr(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const fired = Promise.withResolvers<void>();
  const onAbort = (): void => fired.resolve();
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  try {
    await Promise.race([work, fired.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

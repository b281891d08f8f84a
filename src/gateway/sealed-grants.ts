// Grants that were approved beforehand for the time in which nobody can approve anything: they open while the controller
// can not be heard, and only then.
//
// Guarantees: a sealed grant serves its own person (its key), under the last signed policy and locks, for as many uses as
// it says on this replica; a use is a window that begins with its first login, and it is on disk, synced, before that
// login is answered. What can not be written opens nothing. A clock that was set back opens no second window.
// Does not count across replicas: each may give the uses in full. They are reported once the controller is back.
import type { BundleGrant } from '../policy/bundle.ts';
import type { Clock } from '../system/clock.ts';
import { type Files, writeFileAtomically } from '../system/files.ts';
import type { LogLine } from './observer.ts';

export interface SealedUse {
  grant: { name: string; uid: string };
  connection: { name: string; namespace: string };
  /** When each began, ms since 1970; the oldest first. */
  startedMs: readonly number[];
}

export interface SealedUses {
  of(grantUid: string): readonly number[];
  /** Adds a use; returns once it is synced. Throws if it can not be: then it was no use. */
  add(use: Omit<SealedUse, 'startedMs'>, startMs: number): void;
  all(): readonly SealedUse[];
}

/** Uses of so many grants are kept; the oldest are forgotten first, which is long after they ended. */
const MOST_KEPT = 1024;

/** Uses as they are in the file; one that can not be read is an error: taken for empty it would give every use again. */
export function openSealedUses(files: Files, path: string): SealedUses {
  const uses = new Map<string, SealedUse>();
  if (files.existsSync(path)) {
    const stored = JSON.parse(files.readFileSync(path).toString('utf8')) as { uses?: unknown };
    if (!Array.isArray(stored.uses)) throw new Error(`${path} does not hold uses of sealed grants`);
    for (const each of stored.uses as SealedUse[]) {
      if (typeof each.grant.uid !== 'string' || !each.startedMs.every(Number.isFinite))
        throw new Error(`${path} does not hold uses of sealed grants`);
      uses.set(each.grant.uid, each);
    }
  }
  return {
    of: (uid) => uses.get(uid)?.startedMs ?? [],
    all: () => [...uses.values()],
    add(use, startMs) {
      const before = uses.get(use.grant.uid);
      const next: SealedUse = { ...use, startedMs: [...(before?.startedMs ?? []), startMs] };
      const kept = [...[...uses.values()].filter(({ grant }) => grant.uid !== use.grant.uid), next].slice(-MOST_KEPT);
      writeFileAtomically(files, path, Buffer.from(`${JSON.stringify({ uses: kept })}\n`));
      uses.clear();
      for (const each of kept) uses.set(each.grant.uid, each);
    },
  };
}

/** A window that a sealed grant is open for. */
export interface SealedWindow {
  /** Which use it is, from 1. */
  use: number;
  endMs: number;
  /** The same by a clock that can not be set. */
  endMonotonic: number;
}

export type SealedVerdict =
  | { kind: 'Open'; window: SealedWindow }
  | { kind: 'Refused'; message: string; hint: string; cause: string };

export interface SealedRequest {
  grant: BundleGrant & { sealed: NonNullable<BundleGrant['sealed']> };
  connection: { name: string; namespace: string };
  /** Whether policy and locks are known and the controller can not be heard. */
  orphaned: boolean;
  /** undefined: this gateway has nowhere to count them. */
  uses: SealedUses | undefined;
  clock: Clock;
  log: LogLine;
  prefix: string;
}

/** Judges a login under a sealed grant; takes a use where it begins one. */
export function openSealed(request: SealedRequest): SealedVerdict {
  const { grant, connection, uses, clock, prefix } = request;
  const { durationMs, uses: most } = grant.sealed;
  if (!request.orphaned) {
    return {
      kind: 'Refused',
      message: `Grant ${grant.name} is sealed: it opens only while Sallyport can not hear its controller, and it does hear it.`,
      hint: `${prefix} request ${connection.name} asks for access now; with --break-glass at once, where the policy lets you.`,
      cause: 'sealed, and the controller is there',
    };
  }
  if (uses === undefined) {
    return {
      kind: 'Refused',
      message: 'This gateway can not count the uses of sealed grants, so it opens none.',
      hint: 'Use a proxy of the cluster.',
      cause: 'sealed, and uses can not be counted',
    };
  }
  const nowMs = clock.now();
  const started = uses.of(grant.uid);
  const windowOf = (use: number, endMs: number): SealedVerdict => ({
    kind: 'Open',
    window: { use, endMs, endMonotonic: clock.monotonic() + (endMs - nowMs) },
  });
  const last = started.at(-1);
  if (last !== undefined && nowMs < last) {
    return {
      kind: 'Refused',
      message: `The clock of this gateway is behind the last use of grant ${grant.name}, so it is not opened.`,
      hint: 'Have its clock set right.',
      cause: 'sealed, and the clock was set back',
    };
  }
  const endOf = (startMs: number): number => Math.min(startMs + durationMs, grant.expiresAtMs);
  if (last !== undefined && nowMs < endOf(last)) return windowOf(started.length, endOf(last));
  if (started.length >= most) {
    return {
      kind: 'Refused',
      message: `Grant ${grant.name} was used ${started.length} times on this gateway, and no more are sealed in it.`,
      hint: 'Another sealed grant, or the controller back, is needed.',
      cause: 'sealed, and used up',
    };
  }
  try {
    uses.add({ grant: { name: grant.name, uid: grant.uid }, connection }, nowMs);
  } catch (error) {
    request.log('error', 'the use of a sealed grant could not be written', { grant: grant.name, error: String(error) });
    return {
      kind: 'Refused',
      message: 'The use of this sealed grant can not be written to disk, so it is not opened.',
      hint: 'The disk of the gateway is full or failing.',
      cause: 'sealed, and the use can not be written',
    };
  }
  request.log('warn', 'a sealed grant was opened: the controller can not be heard', {
    grant: grant.name,
    user: grant.principal.username,
    use: started.length + 1,
    of: most,
  });
  return windowOf(started.length + 1, endOf(nowMs));
}

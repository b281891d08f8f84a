// What one session's parts have in common: its collaborators and the little state that both directions need.
import type { SessionPolicy } from '../../../policy/session-policy.ts';
import type { AuthenticatedSession, SessionContext } from '../../protocol.ts';
import type { NativeError } from '../errors.ts';
import type { Ledger } from '../ledger.ts';
import type { MaskingCatalog, SessionMasking } from '../masking/masking.ts';
import type { SessionNames } from '../names/session.ts';
import type { Classification, ClassifiedStatement } from '../statement.ts';
import { NameTable } from './names.ts';
import type { Item, PassedVerdict, Portal, Prepared, Run } from './types.ts';

/** What all sessions of the process share. */
export interface Services {
  /** Text in UTF-8. Never throws. */
  classify(text: Buffer): Classification;
  /**
   * The statements of another text that differs from this one in literals which no judgement of rules looks at. Not for
   * masks, nor for anything shown: tree and text are the other's. undefined: none is known. Never throws.
   */
  classifyLike(text: Buffer): readonly ClassifiedStatement[] | undefined;
  /** How the person calls us in hints: `sallyport`, `kubectl access`. */
  prefix: string;
}

export interface Core {
  readonly context: SessionContext;
  readonly session: AuthenticatedSession;
  readonly services: Services;
  readonly database: string;
  readonly serverMajor: number;
  /** As the server last reported them. */
  readonly parameters: Map<string, string>;
  readonly ledger: Ledger<Item>;
  readonly statements: NameTable<Prepared>;
  /** Portals and cursors: one name space. */
  readonly portals: NameTable<Portal>;
  /** The masking catalog of (connection, account, database); made when a mask first applies. */
  catalog(): MaskingCatalog;
  /** What unqualified names mean. */
  readonly names: SessionNames;
  /** Runs one query as the session's account, past the session. Rejects with Error. */
  sideQuery(sql: string): Promise<(string | null)[][]>;
  /** As of the server's last ReadyForQuery. */
  transaction: 'I' | 'T' | 'E';
  /** Counts Syncs and Querys sent: names told in one segment are certain within it. */
  segment: number;
  nextCommandId: number;
  /** Ends the session with a FATAL. Idempotent. */
  fail(error: NativeError, reason: string): void;
  /** Asks the server to cancel what this session runs; resolves once it has taken note. */
  cancelRunning(): Promise<void>;
  /** The ledger became empty. */
  onIdle: (() => void) | undefined;
  masking: ResolvedMasking | undefined;
  /** By what texts of Query were understood as. */
  readonly passedTexts: PassedTexts;
}

/** Verdicts that let statements pass, good for one policy generation and one meaning of names. */
export type PassedTexts = WeakMap<readonly ClassifiedStatement[], { generation: number; verdict: PassedVerdict }>;

export interface ResolvedMasking {
  generation: number;
  value: SessionMasking;
}

/** Bounds on names a client may keep; far above what drivers and pools use. */
export const MOST_NAMES = 10_000;

export function newNames(): { statements: NameTable<Prepared>; portals: NameTable<Portal> } {
  return {
    statements: new NameTable(MOST_NAMES, (prepared) => prepared.size, samePrepared),
    portals: new NameTable(
      MOST_NAMES,
      (portal) => portal.parameters.reduce((sum, value) => sum + (value?.length ?? 0), 0),
      samePortal,
    ),
  };
}

function samePrepared(a: Prepared, b: Prepared): boolean {
  return a.text === b.text && a.statement === b.statement && sameItems(a.parameterTypes, b.parameterTypes);
}

/** But for the parameters, which no judgement looks at. */
function samePortal(a: Portal, b: Portal): boolean {
  return (
    a.generation === b.generation &&
    samePrepared(a.prepared, b.prepared) &&
    sameVerdict(a.verdict, b.verdict) &&
    sameItems(a.effects, b.effects)
  );
}

function sameVerdict(a: PassedVerdict, b: PassedVerdict): boolean {
  if (a === b) return true;
  return (
    a.masking === b.masking &&
    a.basis === b.basis &&
    a.barrier === b.barrier &&
    a.defines === b.defines &&
    a.alternatives === b.alternatives &&
    sameItems(a.statements ?? [], b.statements ?? []) &&
    sameItems(a.commands ?? [], b.commands ?? [])
  );
}

function sameItems(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((each, index) => each === b[index]);
}

/** Masks apply or rules do: then every command must be understood. */
export function mustUnderstand(policy: SessionPolicy): boolean {
  return policy.transparent === undefined || policy.masks.length > 0 || policy.broken.length > 0;
}

export function newRun(core: Core, commandId: number, verdict: PassedVerdict): Run {
  return {
    commandId,
    startedMs: core.context.clock.monotonic(),
    verdict,
    rows: 0,
    bytes: 0,
    masked: 0,
    tag: undefined,
    error: undefined,
    fields: undefined,
    plan: undefined,
    refusal: undefined,
    origins: undefined,
    sample: [],
    effects: [],
    completed: 0,
  };
}

/** Names in SQL are UTF-8 text, on the wire bytes; the tables keep bytes as Latin-1. */
export function wireName(sqlName: string): string {
  return Buffer.from(sqlName, 'utf8').toString('latin1');
}

/** A fault of our own costs the session it happened in, never the process (INV-11). Nothing of the message is logged. */
export function failInternally(core: Core, error: unknown): void {
  const frames = error instanceof Error ? (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line)) : [];
  core.context.log('error', 'a session ended by a fault of the gateway itself', {
    error: error instanceof Error ? error.name : typeof error,
    at: frames.slice(0, 8).map((line) => line.trim()),
  });
  core.fail(
    {
      code: 'XX000',
      message: 'Sallyport: an internal error ended the session',
      hint: 'Report it; the gateway’s log has where.',
    },
    'InternalError',
  );
}

// Proves a record folder, offline: that every segment is what was signed, that the segments of each session follow
// one another without gap, that none of those the heads speak of is missing and that nothing else lies among them, and
// that the live log continues them. INV-07.
// Guarantees: a flipped, missing, repeated, reordered, foreign or cut-off piece is a finding that names it. Does not:
// notice a whole folder rolled back to an earlier state of itself, unless told a head noted elsewhere; nor what was
// written to the live log after its last mark (about a second) and then cut off at a batch's end; nor that the mark is
// gone where the live log spans less than ten seconds.
import fs from 'node:fs';
import { MARK_FILE } from './layout.ts';
import { MARK_FORMAT, type Mark } from './log/mark.ts';
import { decodeSignedLine } from './signed-line.ts';
import { type StoreView, type ViewOptions, viewRecords } from './store-view.ts';
import type { Verification } from './verification.ts';
import { foreignSegment, walkHeads } from './verify-heads.ts';
import { walkLive } from './verify-live.ts';
import { checkKeys, listSealed, strangers } from './verify-pieces.ts';

export type FindingCode =
  | 'Changed' // bytes are not what was signed or chained
  | 'Missing'
  | 'Foreign' // a piece nobody signed for
  | 'Repeated' // a piece of another place
  | 'Gap' // records between two pieces are missing
  | 'CutOff'
  | 'Lost' // a dead process took records with it; recovery says so
  | 'Keys'
  | 'RolledBack';

export interface Finding {
  code: FindingCode;
  /** Session id, where the piece belongs to one. */
  session?: string;
  /** Path under the folder. */
  piece: string;
  /** First byte concerned, where it is known. */
  at?: number;
  message: string;
}

export interface VerifyReport {
  findings: readonly Finding[];
  /** Findings beyond the limit that were only counted. */
  more: number;
  /** What a reader should know and is no fault. */
  notes: readonly string[];
  checked: { heads: number; segments: number; sessions: number; records: number; bytes: number; liveRecords: number };
  /** Last head: note it elsewhere, hand it in next time. */
  head: { entry: number; hash: string } | undefined;
  /** Key ids of the roots relied on, and whether the caller brought them. */
  roots: readonly string[];
  pinned: boolean;
}

export interface VerifyOptions extends ViewOptions {
  /** A head noted earlier: the heads must still contain it. */
  expectHead?: { entry: number; hash: string };
  /** Findings kept; default 1000. */
  most?: number;
}

/** Throws NotARecordFolder or Node's error if the folder can not be read at all. */
export function verifyRecords(folder: string, options: VerifyOptions = {}): VerifyReport {
  const marked = openMarked(folder, options);
  using view = marked.view;
  const most = options.most ?? 1000;
  const findings: Finding[] = [];
  let more = 0;
  const notes: string[] = [];
  const checked = { heads: 0, segments: 0, sessions: 0, records: 0, bytes: 0, liveRecords: 0 };
  const find = (finding: Finding): void => {
    if (findings.length < most) findings.push(finding);
    else more += 1;
  };

  checkKeys(view, find, notes);
  const verification: Verification = {
    view,
    marked,
    find,
    notes,
    checked,
    streams: new Map(),
    // Listed before the heads are read: what is sealed meanwhile has its head, and is looked for by name.
    unlisted: listSealed(view, find),
    ended: new Map(),
  };
  const walked = walkHeads(verification, options.expectHead);
  walkLive(verification, walked);
  for (const name of verification.unlisted) foreignSegment(verification, walked, name);
  strangers(view, find, notes);
  const { head } = walked;
  return { findings, more, notes, checked, head, roots: view.roots.map(({ keyId }) => keyId), pinned: view.pinned };
}

/**
 * Opens the folder together with a mark that agrees with it: a live file that was just sealed may be gone before the
 * mark, renewed each second, says so. Waits for at most two seconds.
 */
function openMarked(
  folder: string,
  options: VerifyOptions,
): { view: StoreView; mark: Mark | undefined; problem?: string } {
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  for (let attempt = 0; ; attempt += 1) {
    const bytes = readIfThere(`${folder}/${MARK_FILE}`);
    const view = viewRecords(folder, options);
    if (bytes === undefined) return { view, mark: undefined };
    const end = bytes.length - 1;
    const line = bytes[end] === 0x0a ? decodeSignedLine(bytes.subarray(0, end), MARK_FORMAT, view.keys) : undefined;
    if (line?.kind !== 'Good') return { view, mark: undefined, problem: 'the mark of the live log is damaged' };
    const mark = line.body as Mark;
    const oldest = view.live[0]?.number;
    if ((oldest !== undefined && oldest <= mark.oldest) || attempt === 20) return { view, mark };
    view[Symbol.dispose]();
    Atomics.wait(sleep, 0, 0, 100);
  }
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return fs.readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

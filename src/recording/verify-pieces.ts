// The parts of verifying that look at names and keys, and the sentences that findings are told in.
import {
  HEADS_FILE,
  isDateFolder,
  KEYS_FILE,
  LIVE_FOLDER,
  LOCK_FILE,
  liveFileNumber,
  parseSegmentName,
  SEALED_FOLDER,
} from './layout.ts';
import type { HeadProblem } from './seal/heads.ts';
import type { SegmentProblem } from './seal/segment.ts';
import { checkCertificate } from './signer.ts';
import { listNames, type StoreView } from './store-view.ts';
import type { Finding } from './verify.ts';

const HEAD_PROBLEMS: Readonly<Record<HeadProblem, string>> = {
  Format: 'this line is no head',
  Chain: 'a line before this one is missing, repeated, changed or moved',
  UnknownKey: 'this head is signed by a key that no trusted root vouches for',
  OutOfTime: 'this head is signed when its key was not valid',
  BadSignature: 'the signature of this head is wrong',
};

export function headProblemMessage(problem: HeadProblem): string {
  return HEAD_PROBLEMS[problem];
}

/** `other`: the piece says that it belongs elsewhere. */
export function problemMessage(problem: SegmentProblem, other: boolean): string {
  const what: Readonly<Record<SegmentProblem, string>> = {
    Header: 'its header is not one',
    Length: 'it is shorter or longer than its header says',
    UnknownKey: 'it is signed by a key that no trusted root vouches for',
    OutOfTime: 'it is signed when its key was not valid',
    BadSignature: 'its bytes are not what was signed',
    Frame: 'its payload is not exactly one frame',
    Content: 'its payload does not hold what its header says',
    Records: 'its lines are not the records that its header says',
  };
  return other ? `${what[problem]}, and it is a piece of another place` : what[problem];
}

/** Every certificate must be signed by a root that is trusted. */
export function checkKeys(view: StoreView, find: (finding: Finding) => void, notes: string[]): void {
  const { format, roots, certificates } = view.keysFile;
  const spelled = Buffer.from(`${JSON.stringify({ format, roots, certificates }, undefined, 2)}\n`);
  if (!spelled.equals(view.keysBytes))
    find({ code: 'Keys', piece: KEYS_FILE, message: 'it is not spelled as it was written' });
  for (const certificate of certificates) {
    const verdict = checkCertificate(certificate, view.roots);
    if (verdict.kind === 'Good') continue;
    const message = `the certificate of record key ${String(certificate.keyId)} is not good (${verdict.reason})`;
    find({ code: 'Keys', piece: KEYS_FILE, message });
  }
  const ids = view.roots.map(({ keyId }) => keyId).join(', ');
  if (!view.pinned)
    notes.push(
      `root keys (${ids}) are taken from ${KEYS_FILE} itself; compare them with what was printed at the start`,
    );
}

/** Every segment's path; what is no segment is found at once. */
export function listSealed(view: StoreView, find: (finding: Finding) => void): Set<string> {
  const names = new Set<string>();
  for (const date of listNames(`${view.folder}/${SEALED_FOLDER}`)) {
    const path = `${SEALED_FOLDER}/${date}`;
    if (!isDateFolder(date)) {
      find({ code: 'Foreign', piece: path, message: 'it is no date' });
      continue;
    }
    for (const name of listNames(`${view.folder}/${path}`)) {
      if (parseSegmentName(name) !== undefined) names.add(`${path}/${name}`);
      else if (!(name.endsWith('.tmp') && parseSegmentName(name.slice(0, -4)) !== undefined)) {
        find({ code: 'Foreign', piece: `${path}/${name}`, message: 'it is no segment' });
      }
    }
  }
  return names;
}

/** What lies in the folder and belongs to nothing. */
export function strangers(view: StoreView, find: (finding: Finding) => void, notes: string[]): void {
  const known = new Set([HEADS_FILE, KEYS_FILE, LIVE_FOLDER, SEALED_FOLDER, LOCK_FILE]);
  for (const name of listNames(view.folder)) {
    if (known.has(name) || name.endsWith('.tmp')) continue;
    if (name.startsWith(`${HEADS_FILE}.`)) notes.push(`${name} is a heads file that the gateway found damaged`);
    else find({ code: 'Foreign', piece: name, message: 'it belongs to no record' });
  }
  for (const name of listNames(`${view.folder}/${LIVE_FOLDER}`)) {
    if (liveFileNumber(name) === undefined && !['mark', 'mark.tmp'].includes(name)) {
      find({ code: 'Foreign', piece: `${LIVE_FOLDER}/${name}`, message: 'it is no live file' });
    }
  }
}

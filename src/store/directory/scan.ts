// Which files the directory holds. Follows symbolic links as long as they stay inside it, visits each folder once, and
// reports what it can not read rather than leaving it out: a file that is not seen is not the same as one that is gone.
import fs from 'node:fs';
import path from 'node:path';
import type { FileProblem } from './file-problem.ts';

const DEEPEST = 32;
const MOST_FILES = 10_000;

export interface ScannedFile {
  /** Relative to the directory, with slashes. */
  file: string;
  absolute: string;
  /** Changes whenever the content may have. */
  stamp: string;
  size: number;
}

export interface Scan {
  files: ScannedFile[];
  /** Every folder that was looked at, absolute: what to watch. */
  folders: string[];
  problems: FileProblem[];
  /** Files and folders (relative; empty: all) that are there but could not be read: what they held is not known. */
  unclear: string[];
}

export function stampOf(stat: fs.BigIntStats): string {
  return `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
}

export function scanDirectory(directory: string): Scan {
  const scan: Scan = { files: [], folders: [], problems: [], unclear: [] };
  let root: string;
  try {
    root = fs.realpathSync(directory);
  } catch (error) {
    unreadable(scan, '', error);
    return scan;
  }
  visit(scan, root, root, '', new Set(), 0);
  scan.files.sort((a, b) => (a.file < b.file ? -1 : 1));
  return scan;
}

function visit(scan: Scan, root: string, folder: string, relative: string, seen: Set<string>, depth: number): void {
  if (seen.has(folder)) return;
  seen.add(folder);
  if (depth > DEEPEST) {
    refuse(scan, relative, `folders are nested deeper than ${DEEPEST}`, 'move the files up');
    return;
  }
  let entries: fs.Dirent[];
  try {
    entries = fs.readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    unreadable(scan, relative, error);
    return;
  }
  scan.folders.push(folder);
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    // Names with a leading dot are other programs' (.git, the ..data of a mounted ConfigMap).
    if (entry.name.startsWith('.')) continue;
    const name = relative === '' ? entry.name : `${relative}/${entry.name}`;
    const isYaml = /\.ya?ml$/i.test(entry.name);
    if (!isYaml && !entry.isDirectory() && !entry.isSymbolicLink()) continue;
    const absolute = path.join(folder, entry.name);
    let real: string;
    let stat: fs.BigIntStats;
    try {
      real = fs.realpathSync(absolute);
      stat = fs.statSync(real, { bigint: true });
    } catch (error) {
      if (isYaml || (entry.isSymbolicLink() && path.extname(entry.name) === '')) unreadable(scan, name, error);
      continue;
    }
    if (!isYaml && !stat.isDirectory()) continue;
    if (real !== root && !real.startsWith(root + path.sep)) {
      refuse(scan, name, 'the link points out of the directory', 'copy the file into it');
    } else if (stat.isDirectory()) {
      visit(scan, root, real, name, seen, depth + 1);
    } else if (!stat.isFile()) {
      refuse(scan, name, 'this is no regular file', 'remove it, or give it another ending');
    } else if (scan.files.length >= MOST_FILES) {
      if (!scan.unclear.includes('')) refuse(scan, '', `more than ${MOST_FILES} files`, 'split the directory');
    } else {
      scan.files.push({ file: name, absolute: real, stamp: stampOf(stat), size: Number(stat.size) });
    }
  }
}

function unreadable(scan: Scan, file: string, error: unknown): void {
  const code = (error as NodeJS.ErrnoException).code ?? 'error';
  const hint = code === 'ELOOP' ? 'remove the link that leads back to itself' : 'check that it exists and may be read';
  refuse(scan, file, `can not be read (${code})`, hint);
}

function refuse(scan: Scan, file: string, message: string, hint: string): void {
  scan.unclear.push(file);
  scan.problems.push({
    severity: 'Error',
    file: file === '' ? '.' : file,
    line: 1,
    column: 1,
    field: '',
    message,
    hint,
  });
}

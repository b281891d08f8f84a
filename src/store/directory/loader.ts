// The whole directory to the objects it declares: scan, read, then what only shows across files: names taken twice,
// references to nothing, files beside the YAML. Reads each file again only when it has changed.
import fs from 'node:fs';
import path from 'node:path';
import type { ConnectionSpec } from '../../api/connection.ts';
import { KINDS, type Kind } from '../../api/kinds.ts';
import type { AccessPolicySpec } from '../../api/policy.ts';
import { LARGEST_FILE } from './documents.ts';
import type { FileProblem } from './file-problem.ts';
import {
  type BrokenResource,
  type DeclaredObject,
  type DeclaredSecret,
  type FileContent,
  readFileContent,
  unreadableContent,
} from './read-document.ts';
import { type ScannedFile, scanDirectory, stampOf } from './scan.ts';

export interface LoadedDirectory {
  /** By `objectKey`. */
  objects: Map<string, DeclaredObject>;
  broken: BrokenResource[];
  problems: FileProblem[];
  /** Files that declare each Secret, by `namespace/name`. */
  secrets: Map<string, DeclaredSecret[]>;
  /** Changes whenever what a Secret says may have, by `namespace/name`. */
  secretStamps: Map<string, string>;
  /** Files and folders (empty: the whole directory) of which it is not known what they declare. */
  unclear: string[];
  /** Absolute folders to watch. */
  folders: string[];
  /** Changes whenever a file that was read may have. */
  fingerprint: string;
}

export function objectKey(kind: string, namespace: string | undefined, name: string): string {
  return `${kind}/${namespace ?? ''}/${name}`;
}

export interface DirectoryLoader {
  load(): LoadedDirectory;
  /** Whether anything on disk differs from what `load` saw last. Reads no contents. */
  changed(): boolean;
}

export function createLoader(directory: string): DirectoryLoader {
  let cache = new Map<string, { stamp: string; content: FileContent }>();
  let besides: string[] = [];
  let last = '';
  const fingerprintOf = (files: readonly ScannedFile[], unclear: readonly string[]): string =>
    [
      ...files.map((file) => `${file.file}=${file.stamp}`),
      ...unclear,
      ...besides.map((file) => `${file}=${stampAt(file)}`),
    ].join('\n');

  return {
    changed() {
      const scan = scanDirectory(directory);
      return fingerprintOf(scan.files, scan.unclear) !== last;
    },
    load() {
      const scan = scanDirectory(directory);
      const next: typeof cache = new Map();
      const loaded: LoadedDirectory = {
        objects: new Map(),
        broken: scan.unclear.map((file) => ({ problem: `${file === '' ? 'the directory' : file} can not be read` })),
        problems: [...scan.problems],
        secrets: new Map(),
        secretStamps: new Map(),
        unclear: [...scan.unclear],
        folders: scan.folders,
        fingerprint: '',
      };
      for (const file of scan.files) {
        const cached = cache.get(file.file);
        const content = cached?.stamp === file.stamp ? cached.content : readScannedFile(file);
        next.set(file.file, { stamp: file.stamp, content });
        add(loaded, file.file, content);
        for (const { namespace, name } of content.secrets) {
          const key = `${namespace}/${name}`;
          loaded.secretStamps.set(key, `${loaded.secretStamps.get(key) ?? ''}${file.file}=${file.stamp}\n`);
        }
      }
      cache = next;
      besides = [];
      for (const object of Array.from(loaded.objects.values())) resolveCaFile(loaded, object, directory, besides);
      warnOfDanglingReferences(loaded);
      loaded.problems.sort(
        (a, b) => compare(a.file, b.file) || a.line - b.line || a.column - b.column || compare(a.message, b.message),
      );
      last = fingerprintOf(scan.files, scan.unclear);
      loaded.fingerprint = last;
      return loaded;
    },
  };
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function stampAt(file: string): string {
  try {
    return stampOf(fs.statSync(file, { bigint: true }));
  } catch {
    return 'none';
  }
}

function readScannedFile(file: ScannedFile): FileContent {
  const text = readText(file);
  return typeof text === 'string'
    ? readFileContent(file.file, text)
    : unreadableContent(file.file, text.message, text.hint);
}

/** The file's text, or why it can not be had. */
export function readText(file: Pick<ScannedFile, 'absolute' | 'size'>): string | { message: string; hint: string } {
  if (file.size > LARGEST_FILE) return { message: 'the file is larger than 1 MiB', hint: 'split it' };
  try {
    const bytes = fs.readFileSync(file.absolute);
    if (bytes.length > LARGEST_FILE) return { message: 'the file is larger than 1 MiB', hint: 'split it' };
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return { message: 'the file is not UTF-8', hint: 'save it as UTF-8' };
    return {
      message: `can not be read (${(error as NodeJS.ErrnoException).code ?? 'error'})`,
      hint: 'check that it may be read',
    };
  }
}

function add(loaded: LoadedDirectory, file: string, content: FileContent): void {
  loaded.problems.push(...content.problems);
  if (content.unclear) loaded.unclear.push(file);
  for (const broken of content.broken) {
    loaded.broken.push(broken);
    const key = keyOfBroken(broken);
    const other = key === undefined ? undefined : loaded.objects.get(key);
    if (key !== undefined && other !== undefined) {
      takenTwice(loaded, other, broken.problem.split(': ')[0]!);
      loaded.objects.delete(key);
    }
  }
  for (const object of content.objects) {
    const { namespace, name } = object.metadata;
    const key = objectKey(object.kind, namespace, name);
    const first = loaded.objects.get(key);
    const brokenTwin = loaded.broken.some((broken) => keyOfBroken(broken) === key);
    if (first === undefined && !brokenTwin) {
      loaded.objects.set(key, object);
      continue;
    }
    loaded.objects.delete(key);
    if (first !== undefined) takenTwice(loaded, first, placeOf(object));
    takenTwice(loaded, object, first === undefined ? 'another document' : placeOf(first));
  }
  for (const secret of content.secrets) {
    const key = `${secret.namespace}/${secret.name}`;
    const twins = loaded.secrets.get(key) ?? [];
    loaded.secrets.set(key, [...twins, secret]);
    if (twins.length > 0) {
      loaded.problems.push({
        severity: 'Error',
        file: secret.file,
        ...secret.position,
        field: 'metadata.name',
        message: `the name is taken by ${twins[0]!.file}:${twins[0]!.position.line}, so neither is used`,
        hint: 'give one of them another name',
        object: `Secret ${key}`,
      });
    }
  }
}

function keyOfBroken(broken: BrokenResource): string | undefined {
  if (broken.kind === undefined || broken.name === undefined) return undefined;
  return objectKey(broken.kind, broken.namespace, broken.name);
}

const placeOf = (object: DeclaredObject): string => `${object.file}:${object.locate('/metadata/name').line}`;

/** Of two objects of one name neither is in force: which one was meant can not be told. */
function takenTwice(loaded: LoadedDirectory, object: DeclaredObject, other: string): void {
  markBroken(loaded, object, {
    pointer: '/metadata/name',
    message: `the name is taken by ${other}, so neither is in force`,
    hint: 'give one of them another name',
  });
}

function markBroken(
  loaded: LoadedDirectory,
  object: DeclaredObject,
  told: { pointer: string; message: string; hint: string },
): void {
  const { namespace, name } = object.metadata;
  const position = object.locate(told.pointer);
  const field = told.pointer.slice(1).replaceAll('/', '.');
  loaded.problems.push({
    severity: 'Error',
    file: object.file,
    ...position,
    field,
    message: told.message,
    hint: told.hint,
    object: describeObject(object),
  });
  loaded.broken.push({
    kind: object.kind,
    namespace,
    name,
    problem: `${object.file}:${position.line}: ${field}: ${told.message}; ${told.hint}`,
    ...reachOfSpec(object.kind, object.spec),
  });
}

/** What a valid policy's spec selects. */
export function reachOfSpec(kind: Kind, spec: unknown): Pick<BrokenResource, 'selector' | 'namespaces'> {
  if (kind !== 'AccessPolicy' && kind !== 'ClusterAccessPolicy') return {};
  const { connectionSelector, namespaces } = spec as Pick<AccessPolicySpec, 'connectionSelector'> & {
    namespaces?: string[];
  };
  return {
    ...(connectionSelector === undefined ? {} : { selector: connectionSelector }),
    ...(namespaces === undefined ? {} : { namespaces }),
  };
}

function describeObject(object: DeclaredObject): string {
  const { namespace, name } = object.metadata;
  return `${object.kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

const LARGEST_CA = 65536;

/** Reads `caFile` in place of `ca`, so that whoever uses the Connection needs to know no files. */
function resolveCaFile(loaded: LoadedDirectory, object: DeclaredObject, directory: string, besides: string[]): void {
  if (object.kind !== 'Connection') return;
  const spec = object.spec as ConnectionSpec;
  const caFile = spec.postgresql?.tls?.caFile;
  if (caFile === undefined) return;
  const absolute = path.resolve(directory, path.dirname(object.file), caFile);
  besides.push(absolute);
  const ca = readCa(absolute, directory);
  if (ca.kind === 'Bad') {
    const { namespace, name } = object.metadata;
    loaded.objects.delete(objectKey(object.kind, namespace, name));
    markBroken(loaded, object, { pointer: '/spec/postgresql/tls/caFile', message: ca.message, hint: ca.hint });
    return;
  }
  const { caFile: _caFile, ...tls } = spec.postgresql!.tls!;
  const resolved = { ...spec, postgresql: { ...spec.postgresql!, tls: { ...tls, ca: ca.pem } } };
  loaded.objects.set(objectKey(object.kind, object.metadata.namespace, object.metadata.name), {
    ...object,
    spec: resolved,
  });
}

type CaResult = { kind: 'Good'; pem: string } | { kind: 'Bad'; message: string; hint: string };

function readCa(absolute: string, directory: string): CaResult {
  try {
    const root = fs.realpathSync(directory);
    const real = fs.realpathSync(absolute);
    if (!real.startsWith(root + path.sep)) {
      return { kind: 'Bad', message: 'the file is not in the directory', hint: 'copy it beside the YAML' };
    }
    if (fs.statSync(real).size > LARGEST_CA) {
      return { kind: 'Bad', message: 'the file is larger than 64 KiB', hint: 'keep the certificates that are needed' };
    }
    const pem = fs.readFileSync(real, 'utf8');
    // Only certificates leave the file: a private key that lies in it must not become part of an object.
    const certificates = pem.match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g);
    if (certificates === null) {
      return { kind: 'Bad', message: 'the file holds no certificate', hint: 'write PEM: -----BEGIN CERTIFICATE-----' };
    }
    return { kind: 'Good', pem: `${certificates.join('\n')}\n` };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    return {
      kind: 'Bad',
      message: `the file can not be read (${code})`,
      hint: 'its path is relative to this YAML file',
    };
  }
}

function warnOfDanglingReferences(loaded: LoadedDirectory): void {
  const names = (kind: Kind, namespace: string | undefined): string[] =>
    [...loaded.objects.values(), ...loaded.broken.map((broken) => ({ kind: broken.kind, metadata: broken }))]
      .filter((object) => object.kind === kind && object.metadata.namespace === namespace)
      .flatMap((object) => (object.metadata.name === undefined ? [] : [object.metadata.name]));
  for (const object of loaded.objects.values()) {
    const warn = (pointer: string, field: string, message: string, hint: string): void => {
      const at = object.locate(pointer);
      const where = { severity: 'Warning' as const, file: object.file, ...at, field };
      loaded.problems.push({ ...where, message, hint, object: describeObject(object) });
    };
    const { namespace } = object.metadata;
    if (object.kind === 'Connection') {
      (object.spec as ConnectionSpec).accounts.forEach((account, index) => {
        if (account.secretRef === undefined) return;
        const key = `${namespace}/${account.secretRef.name}`;
        if (loaded.secrets.has(key)) return;
        warn(
          `/spec/accounts/${index}/secretRef/name`,
          `spec.accounts[${index}].secretRef.name`,
          `there is no Secret ${key}, so account "${account.name}" can not be used`,
          'add the Secret to the directory, or correct the name',
        );
      });
    }
    if (object.kind === 'AccessPolicy') {
      const known = names('Connection', namespace);
      (object.spec as AccessPolicySpec).connectionSelector.names?.forEach((name, index) => {
        if (known.includes(name)) return;
        warn(
          `/spec/connectionSelector/names/${index}`,
          `spec.connectionSelector.names[${index}]`,
          `there is no Connection ${namespace}/${name}`,
          known.length === 0 ? `namespace ${namespace} has none` : `there are ${known.slice(0, 8).join(', ')}`,
        );
      });
    }
  }
}

/** Whether the kind lives in namespaces. */
export function isNamespaced(kind: Kind): boolean {
  return KINDS[kind].scope === 'Namespaced';
}

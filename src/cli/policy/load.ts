// Reads a directory of YAML for the policy verbs: resources by the same loader that `sallyport local` uses, so that what
// is judged here is what would be in force there, and the PolicyTest documents that lie beside them.
import fs from 'node:fs';
import path from 'node:path';
import type { Connection } from '../../api/connection.ts';
import type { AccessPolicy, ClusterAccessPolicy } from '../../api/policy.ts';
import type { Resource } from '../../api/resource.ts';
import { API_GROUP_VERSION } from '../../api/schema.ts';
import { fieldOf, type Problem } from '../../api/validate.ts';
import { isPolicyTest, type ReadyCase, readPolicyTest } from '../../policy/testing/format.ts';
import type { TestWorld } from '../../policy/testing/run.ts';
import { type ParsedDocument, type Position, parseDocuments } from '../../store/directory/documents.ts';
import type { FileProblem } from '../../store/directory/file-problem.ts';
import { createLoader, readText } from '../../store/directory/loader.ts';
import type { DeclaredObject } from '../../store/directory/read-document.ts';
import { scanDirectory } from '../../store/directory/scan.ts';

export interface LoadedPolicies {
  world: Omit<TestWorld, 'protocolFor'>;
  /** By `kind namespace/name`: where to point at. Files are as the person would open them. */
  places: ReadonlyMap<string, Pick<DeclaredObject, 'file' | 'locate'>>;
  problems: readonly FileProblem[];
}

export function placeKey(kind: string, namespace: string | undefined, name: string): string {
  return `${kind} ${namespace ?? ''}/${name}`;
}

/** Never throws for what the files hold. A directory that is not there is a problem like any other. */
export function loadPolicies(directory: string): LoadedPolicies {
  const loaded = createLoader(directory).load();
  const connections: Connection[] = [];
  const policies: AccessPolicy[] = [];
  const clusterPolicies: ClusterAccessPolicy[] = [];
  const places = new Map<string, Pick<DeclaredObject, 'file' | 'locate'>>();
  for (const object of loaded.objects.values()) {
    const { kind, metadata } = object;
    places.set(placeKey(kind, metadata.namespace, metadata.name), {
      file: path.join(directory, object.file),
      locate: object.locate,
    });
    const resource = resourceOf(object);
    if (kind === 'Connection') connections.push(resource as Connection);
    else if (kind === 'AccessPolicy') policies.push(resource as AccessPolicy);
    else if (kind === 'ClusterAccessPolicy') clusterPolicies.push(resource as ClusterAccessPolicy);
  }
  return {
    world: { connections, policies, clusterPolicies, broken: loaded.broken },
    places,
    problems: loaded.problems.map((problem) => ({ ...problem, file: path.join(directory, problem.file) })),
  };
}

/** As a server would serve it; uid and version stand for the place in the directory. */
function resourceOf(object: DeclaredObject): Resource {
  const { kind, metadata, spec } = object;
  const uid = placeKey(kind, metadata.namespace, metadata.name);
  return {
    apiVersion: API_GROUP_VERSION,
    kind,
    metadata: { ...metadata, uid, resourceVersion: '1', generation: 1, creationTimestamp: new Date(0).toISOString() },
    spec,
  } as Resource;
}

export interface LoadedTest {
  file: string;
  suite: string | undefined;
  cases: readonly { one: ReadyCase; line: number }[];
}

/** Every PolicyTest under a directory. A file that mentions none is not looked into further. */
export function loadTests(directory: string): { tests: LoadedTest[]; problems: FileProblem[] } {
  const tests: LoadedTest[] = [];
  const problems: FileProblem[] = [];
  const scan = scanDirectory(directory);
  for (const problem of scan.problems) problems.push({ ...problem, file: path.join(directory, problem.file) });
  for (const scanned of scan.files) {
    const file = path.join(directory, scanned.file);
    const text = readText(scanned);
    if (typeof text !== 'string') {
      problems.push(problemAt(file, { line: 1, column: 1 }, '', text));
      continue;
    }
    if (!text.includes('PolicyTest')) continue;
    for (const document of parseDocuments(text)) {
      if (document.kind === 'Broken') problems.push(problemAt(file, document.position, '', document));
      else if (isPolicyTest(document.value)) readDocument(file, document, tests, problems);
    }
  }
  return { tests, problems };
}

function readDocument(
  file: string,
  document: Extract<ParsedDocument, { kind: 'Value' }>,
  tests: LoadedTest[],
  problems: FileProblem[],
): void {
  const read = readPolicyTest(document.value);
  if (read.kind === 'Cases') {
    const cases = read.cases.map((one) => ({ one, line: document.locate(one.path).line }));
    tests.push({ file, suite: read.suite, cases });
    return;
  }
  for (const problem of read.problems) {
    problems.push(problemAt(file, document.locate(problem.path, problem.unknownField), problem.path, problem));
  }
}

function problemAt(
  file: string,
  position: Position,
  pointer: string,
  told: Pick<Problem, 'message' | 'hint'>,
): FileProblem {
  return { severity: 'Error', file, ...position, field: fieldOf(pointer), message: told.message, hint: told.hint };
}

const LARGEST_SCHEMA = 64 * 1024 * 1024;

/** The schema file of a test, relative to the test's own file: JSON, given to the classifier as it is. */
export function readSchema(
  testFile: string,
  schema: string,
): { kind: 'Schema'; value: unknown } | { kind: 'Bad'; message: string } {
  const file = path.resolve(path.dirname(testFile), schema);
  try {
    if (fs.statSync(file).size > LARGEST_SCHEMA)
      return { kind: 'Bad', message: `schema ${schema} is larger than 64 MiB` };
    return { kind: 'Schema', value: JSON.parse(fs.readFileSync(file, 'utf8')) };
  } catch (error) {
    const why =
      error instanceof SyntaxError ? 'is not JSON' : `can not be read (${(error as NodeJS.ErrnoException).code})`;
    return { kind: 'Bad', message: `schema ${schema} ${why}; write it with: sallyport catalog export` };
  }
}

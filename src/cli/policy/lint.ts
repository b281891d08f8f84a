// `sallyport policy lint DIR`: every problem of the policies in a directory, with file and line, and warnings about what
// is valid but probably not meant. Exit code 0: none or warnings only; 1: warnings with `strict`; 78: problems.
import type { Connection } from '../../api/connection.ts';
import type { AccessPolicy, ClusterAccessPolicy } from '../../api/policy.ts';
import { fieldOf } from '../../api/validate.ts';
import { compilePolicy, policyProblems, selects } from '../../policy/compile.ts';
import { lintPolicy } from '../../policy/lint.ts';
import { type FileProblem, formatFileProblem } from '../../store/directory/file-problem.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { type LoadedPolicies, loadPolicies, loadTests, placeKey } from './load.ts';
import { allTestProtocols, type PolicyTestDeps } from './test.ts';

export interface PolicyLintArgs {
  dir: string;
  /** `table` (default): a line a problem; `json`. */
  output?: string | undefined;
  /** Warnings fail too. */
  strict?: boolean | undefined;
}

export async function policyLint(args: PolicyLintArgs, io: Io, deps: PolicyTestDeps = {}): Promise<ExitCode> {
  if (!['table', 'json'].includes(args.output ?? 'table'))
    throw new CliError(EXIT.misconfigured, `-o ${args.output} is no form of output`, 'Write one of table, json.');
  const loaded = loadPolicies(args.dir);
  const protocols = await (deps.protocols ?? allTestProtocols)();
  const found = new Map<string, FileProblem>();
  const add = (problem: FileProblem): void =>
    void found.set(`${problem.file}:${problem.line}:${problem.message}`, problem);
  loaded.problems.forEach(add);
  loadTests(args.dir).problems.forEach(add);
  for (const policy of [...loaded.world.policies, ...loaded.world.clusterPolicies]) {
    for (const problem of problemsOf(policy, loaded, (type) => protocols.get(type)?.rules)) add(problem);
  }
  const problems = [...found.values()].sort((a, b) =>
    a.file === b.file ? a.line - b.line || a.column - b.column : a.file < b.file ? -1 : 1,
  );
  const errors = problems.filter(({ severity }) => severity === 'Error').length;
  const warnings = problems.length - errors;
  if (args.output === 'json') io.out(`${JSON.stringify({ errors, warnings, problems }, null, 2)}\n`);
  else {
    for (const problem of problems)
      io.out(`${problem.severity === 'Error' ? 'error  ' : 'warning'}  ${formatFileProblem(problem)}\n`);
    const { connections, policies, clusterPolicies } = loaded.world;
    io.out(
      `${counted(connections.length, 'Connection')}, ${counted(policies.length + clusterPolicies.length, 'policy', 'policies')}: ${counted(errors, 'error')}, ${counted(warnings, 'warning')}\n`,
    );
  }
  if (errors > 0) return EXIT.misconfigured;
  return args.strict === true && warnings > 0 ? EXIT.failed : EXIT.ok;
}

const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;

type ProblemAt = (pointer: string, severity: FileProblem['severity'], message: string, hint: string) => FileProblem;

/** Makes problems of one object, with the line that a field of it is on. */
function problemsAt(object: Connection | AccessPolicy | ClusterAccessPolicy, loaded: LoadedPolicies): ProblemAt {
  const { namespace, name } = object.metadata;
  const place = loaded.places.get(placeKey(object.kind, namespace, name));
  return (pointer, severity, message, hint) => ({
    severity,
    file: place?.file ?? '',
    ...(place?.locate(pointer) ?? { line: 1, column: 1 }),
    field: fieldOf(pointer),
    message,
    hint,
    object: `${object.kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`,
  });
}

function problemsOf(
  policy: AccessPolicy | ClusterAccessPolicy,
  loaded: LoadedPolicies,
  rulesFor: (type: string) => Parameters<typeof compilePolicy>[2] | undefined,
): FileProblem[] {
  const at = problemsAt(policy, loaded);
  const targets = loaded.world.connections.filter(({ metadata }) =>
    selects(policy, { namespace: metadata.namespace ?? '', name: metadata.name, labels: metadata.labels ?? {} }),
  );
  const problems: FileProblem[] = [];
  if (targets.length === 0)
    problems.push(
      at(
        '/spec/connectionSelector',
        'Warning',
        'it selects no Connection',
        'compare it with the names and labels of the Connections',
      ),
    );
  const seen = new Set<string>();
  for (const connection of targets) {
    const rules = rulesFor(connection.spec.type);
    if (rules === undefined) continue;
    for (const problem of policyProblems(policy, connection, rules)) {
      if (seen.has(problem)) continue;
      seen.add(problem);
      const [message, hint] = splitHint(problem);
      problems.push(at(pointerOf(policy, problem), 'Error', message, hint));
    }
  }
  const first = targets.find(({ spec }) => rulesFor(spec.type) !== undefined);
  const rules = first && rulesFor(first.spec.type);
  const compiled = first && rules && compilePolicy(policy, first, rules);
  for (const { path, message, hint } of lintPolicy(policy, compiled, rules))
    problems.push(at(path, 'Warning', message, hint));
  return problems;
}

/** Problems of the compiler are one sentence: what is wrong; what to do. */
function splitHint(problem: string): [message: string, hint: string] {
  const cut = problem.lastIndexOf('; ');
  return cut < 0 ? [problem, 'see docs/policies.md'] : [problem.slice(0, cut), problem.slice(cut + 2)];
}

/** Where in the document a problem of the compiler is, from how it begins. */
function pointerOf(policy: AccessPolicy | ClusterAccessPolicy, problem: string): string {
  const named = /^(rule|mask) "([^"]*)"/.exec(problem);
  if (named !== null) {
    const [list, entries] =
      named[1] === 'rule' ? ['rules', policy.spec.rules ?? []] : ['masking', policy.spec.masking ?? []];
    const index = entries.findIndex(({ name }) => name === named[2]);
    return index < 0 ? '/spec' : `/spec/${list}/${index}`;
  }
  const field = /^spec(\.[A-Za-z]+)+/.exec(problem);
  return field === null ? '/spec' : `/${field[0].replaceAll('.', '/')}`;
}

// `sallyport policy test DIR`: runs the policy tests of a directory. Exit code 0: all pass; 1: a case fails; 78: a file
// can not be used, told with file and line.
import fs from 'node:fs';
import { type FileResult, jsonReport, junitReport, tableReport, totalsOf } from '../../policy/testing/report.ts';
import { createTestRunner, type TestProtocol } from '../../policy/testing/run.ts';
import { type FileProblem, formatFileProblem } from '../../store/directory/file-problem.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { loadPolicies, loadTests, readSchema } from './load.ts';
import { loadPostgresTests } from './postgres.ts';
import { sshTests } from './ssh.ts';

export interface PolicyTestArgs {
  /** Directory with the tests, and with the policies unless `policies` says where those are. */
  dir: string;
  policies?: string | undefined;
  /** Default `table`. */
  output?: string | undefined;
  /** Writes JUnit XML there, besides what is printed. */
  junitFile?: string | undefined;
}
export interface PolicyTestDeps {
  /** By `Connection.spec.type`. Default: every protocol of this version. */
  protocols?: () => Promise<ReadonlyMap<string, TestProtocol>>;
}

export async function allTestProtocols(): Promise<ReadonlyMap<string, TestProtocol>> {
  return new Map([
    ['PostgreSQL', await loadPostgresTests()],
    ['SSH', sshTests],
  ]);
}

const FORMS = ['table', 'json', 'junit'];

export async function policyTest(args: PolicyTestArgs, io: Io, deps: PolicyTestDeps = {}): Promise<ExitCode> {
  const form = args.output ?? 'table';
  if (!FORMS.includes(form)) {
    throw new CliError(EXIT.misconfigured, `-o ${form} is no form of output`, `Write one of ${FORMS.join(', ')}.`);
  }
  const { world, problems } = loadPolicies(args.policies ?? args.dir);
  const loaded = loadTests(args.dir);
  const errors = dedupe([...problems.filter(({ severity }) => severity === 'Error'), ...loaded.problems]);
  if (errors.length > 0) {
    for (const problem of errors) io.err(`${formatFileProblem(problem)}\n`);
    io.err(`${errors.length === 1 ? '1 problem' : `${errors.length} problems`}; no case was run.\n`);
    return EXIT.misconfigured;
  }
  if (loaded.tests.length === 0) {
    throw new CliError(
      EXIT.misconfigured,
      `There is no PolicyTest in ${args.dir}`,
      'Write a YAML file with kind: PolicyTest; docs/policies.md shows how.',
    );
  }
  const protocols = await (deps.protocols ?? allTestProtocols)();
  const run = createTestRunner({ ...world, protocolFor: (type) => protocols.get(type) });
  const schemas = new Map<string, ReturnType<typeof readSchema>>();
  const files = loaded.tests.map(({ file, suite, cases }): FileResult => {
    const results = cases.map(({ one, line }) => {
      if (one.schema === undefined) return { ...run(one, undefined), line };
      const key = `${file}\n${one.schema}`;
      const schema = schemas.get(key) ?? readSchema(file, one.schema);
      schemas.set(key, schema);
      const result = run(one, schema.kind === 'Schema' ? schema.value : undefined);
      return schema.kind === 'Schema'
        ? { ...result, line }
        : { ...result, outcome: 'Error' as const, got: 'nothing', misses: [schema.message], why: schema.message, line };
    });
    return { file, suite, results };
  });
  if (args.junitFile !== undefined) fs.writeFileSync(args.junitFile, junitReport(files));
  io.out(form === 'json' ? jsonReport(files) : form === 'junit' ? junitReport(files) : tableReport(files));
  const totals = totalsOf(files);
  return totals.errors > 0 ? EXIT.misconfigured : totals.failed > 0 ? EXIT.failed : EXIT.ok;
}

/** A file that holds both policies and tests is read twice, and its problems are told once. */
function dedupe(problems: readonly FileProblem[]): FileProblem[] {
  const seen = new Map(problems.map((problem) => [`${problem.file}:${problem.line}:${problem.message}`, problem]));
  return [...seen.values()];
}

// How the verbs are called that help to write policies.
import { findConnection } from '../context.ts';
import { CliError, EXIT } from '../io.ts';
import type { Action, Shell } from './shell.ts';

export function authorVerbs({ verb, run, prefix, cluster }: Shell): void {
  const group = 'Writing policies';
  verb('why <subject>', 'explain a denial by its id, or a statement for you now', group, [
    'why d-51c0',
    `why --connection orders-db "drop table orders" --as alice@corp.example ${cluster ? '--as-group' : '--groups'} orders-team`,
  ])
    .option('--connection <name>', 'where, for a statement')
    .option('--account <name>', 'account of the Connection')
    .option('--policy <name>', 'policy to run under, where several fit')
    .action(
      run(async (context, [subject], options) =>
        (await import('../verbs/why.ts')).explainWhy(context, subject!, options),
      ),
    );
  const policy = verb('policy', 'test and check policies without a server', group);
  policy
    .command('test <directory>')
    .description('run the policy tests (kind PolicyTest) of a directory; exit code 1 when one fails')
    .option('--policies <directory>', 'where the policies are, if not beside the tests')
    .option('--junit <file>', 'write JUnit XML there as well')
    .addHelpText(
      'after',
      `\nExamples:\n  ${prefix} policy test ./access\n  ${prefix} policy test ./access -o junit > report.xml\n`,
    )
    .action(
      run(
        async ({ io }, [dir], options: { policies?: string; junit?: string; output?: string }) =>
          (await import('../policy/test.ts')).policyTest(
            { dir: dir!, policies: options.policies, output: options.output, junitFile: options.junit },
            io,
          ),
        { anyForm: true, offline: true },
      ),
    );
  policy
    .command('lint <directory>')
    .description('every problem and doubt of a directory, with file and line')
    .option('--strict', 'warnings fail too')
    .action(
      run(
        async ({ io }, [dir], options: { strict?: boolean; output?: string }) =>
          (await import('../policy/lint.ts')).policyLint(
            { dir: dir!, output: options.output, strict: options.strict },
            io,
          ),
        { anyForm: true, offline: true },
      ),
    );
  verb('preset [name]', 'print the rules a preset stands for', group, ['preset ReadOnly', 'preset ReadOnly --type SSH'])
    .option('--type <type>', 'Connections that it is for: PostgreSQL (default) or SSH')
    .action(
      run(
        async ({ io }, [name], options: { type?: string }) => {
          const { preset, presetRules } = await import('../policy/preset.ts');
          return preset({ name }, io, await presetRules(options.type));
        },
        { offline: true },
      ),
    );
  const catalog = verb('catalog', 'schemas of Connections, for policy tests', group);
  catalog
    .command('export <connection>')
    .description('print the schema of a Connection’s database as JSON: names and types, no data')
    .option('--account <name>', 'account to look with; default: the first')
    .action(
      cluster
        ? run(catalogElsewhere, { offline: true })
        : run(async (context, [name], options: { account?: string }) => {
            const { metadata } = await findConnection(context, name!);
            const found = await context.client.catalog(metadata.namespace ?? 'default', metadata.name, options.account);
            context.io.out(`${JSON.stringify(found, null, 2)}\n`);
            return EXIT.ok;
          }),
    );
}

const catalogElsewhere: Action = async () => {
  throw new CliError(
    EXIT.misconfigured,
    'The schema of a database is not exported through a cluster: its credentials stay in the proxy',
    'Where you may read the credentials, serve the same Connection by sallyport local DIR, then: sallyport catalog export NAME',
  );
};

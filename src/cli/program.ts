// The program: options that every verb has, the verbs of usage/, and how failures are told. As `sallyport` it goes to
// the Sallyport of this machine, as `kubectl access` to a cluster; the verbs are the same.
import { Command, CommanderError, Option } from 'commander';
import { completionScript } from './completion.ts';
import { type CommonOptions, commandPrefix, openContext } from './context.ts';
import { identityVerbs } from './identity/verbs.ts';
import { CliError, EXIT, type ExitCode, type Io } from './io.ts';
import { approverVerbs } from './usage/approving.ts';
import { auditVerbs } from './usage/audit.ts';
import { clusterVerbs, engineerVerbs } from './usage/getting-access.ts';
import { authorVerbs } from './usage/policies.ts';
import { processVerbs } from './usage/processes.ts';
import { securityVerbs } from './usage/security.ts';
import { type Action, collected, type Run, type Shell } from './usage/shell.ts';
import { version } from './version.ts';

export interface Outcome {
  code: ExitCode;
  /** The verb has closed what it opened; what is still open may be left as it is. */
  leave?: boolean;
  /** The verb that was asked for, for hints. */
  verb?: string;
}

export function buildProgram(io: Io, outcome: Outcome): Command {
  const prefix = commandPrefix(io.env);
  const program = new Command(prefix);
  program
    .description('Short, approved, recorded access instead of standing credentials.')
    .version(version(), '-V, --version')
    .helpCommand(false)
    .showHelpAfterError(false)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .configureOutput({
      writeOut: (text) => io.out(text),
      writeErr: (text) => io.err(text),
      outputError: () => undefined,
    })
    .hook('preSubcommand', (_program, command) => {
      outcome.verb = command.name();
    })
    .option('-o, --output <form>', 'table (default), wide, json, yaml or name');
  const cluster = prefix === 'kubectl access';
  if (cluster) clusterOptions(program);
  else localOptions(program);

  const run: Run =
    (action: Action, needs = {}) =>
    async (...given: unknown[]): Promise<void> => {
      const command = given.at(-1) as Command;
      const options = command.optsWithGlobals<Record<string, never> & CommonOptions>();
      const { offlineWith } = needs;
      const offline = needs.offline === true || (offlineWith !== undefined && options[offlineWith] !== undefined);
      const context = await openContext(io, options, { ...needs, offline });
      try {
        outcome.code = await action(context, command.args, options);
      } finally {
        await context.cluster?.close();
      }
    };
  const verb: Shell['verb'] = (usage, summary, group, examples = []) =>
    program
      .command(usage)
      .description(summary)
      .helpGroup(`${group}:`)
      .addHelpText(
        'after',
        examples.length === 0 ? '' : `\nExamples:\n${examples.map((each) => `  ${prefix} ${each}\n`).join('')}`,
      );

  const shell: Shell = { verb, run, prefix, cluster };
  engineerVerbs(shell);
  identityVerbs(shell);
  approverVerbs(shell);
  securityVerbs(shell);
  auditVerbs(shell);
  authorVerbs(shell);
  if (cluster) {
    clusterVerbs(shell);
    verb('local <directory>', 'run Sallyport over a directory of YAML: not in a cluster', 'Running').action(
      run(localElsewhere, { offline: true }),
    );
  } else {
    runningVerbs(shell, outcome);
    processVerbs(program, run, outcome);
  }
  verb('version', 'print the version', 'Running').action(
    run(
      async (context) => {
        context.io.out(`${prefix} ${version()} (node ${process.versions.node})\n`);
        return EXIT.ok;
      },
      { offline: true },
    ),
  );
  verb('completion <shell>', 'print a completion script for bash, zsh or fish', 'Running', [
    'completion bash > /etc/bash_completion.d/sallyport',
  ]).action(
    run(
      async (context, [language]) => {
        context.io.out(completionScript(language!, program));
        return EXIT.ok;
      },
      { offline: true },
    ),
  );
  return program;
}

function localOptions(program: Command): void {
  program
    .option('--as <user>', 'who you are; default: SALLYPORT_AS, else your login name')
    .option('--groups <a,b>', 'groups you are in, comma-separated; default: SALLYPORT_GROUPS')
    .option(
      '--state <dir>',
      'state folder of the running Sallyport; default: SALLYPORT_STATE, else ~/.local/state/sallyport',
    )
    .option('-n, --namespace <namespace>', 'namespace; default: SALLYPORT_NAMESPACE, else any')
    .option('-A, --all-namespaces', 'every namespace, even if SALLYPORT_NAMESPACE is set');
}

/** Named and meant as kubectl's. */
function clusterOptions(program: Command): void {
  program
    .option('-n, --namespace <namespace>', 'namespace; default: the one of the kubeconfig’s context')
    .option('-A, --all-namespaces', 'every namespace')
    .option('--context <name>', 'context of the kubeconfig')
    .option('--kubeconfig <file>', 'default: KUBECONFIG, else ~/.kube/config; in a pod its ServiceAccount')
    .option('--as <user>', 'impersonate this user, if you may')
    .option('--as-group <group>', 'and these groups (repeat it)', collected)
    .option('--as-uid <uid>', 'and this uid');
}

const localElsewhere: Action = async (_context, [directory]) => {
  throw new CliError(
    EXIT.misconfigured,
    'Local mode is one machine without a cluster',
    `Run: sallyport local ${directory ?? 'DIR'}. In a cluster the operator serves what is applied: kubectl apply -f ${directory ?? 'DIR'}.`,
  );
};

function runningVerbs({ verb, run }: Shell, outcome: Outcome): void {
  verb('local <directory>', 'run Sallyport over a directory of YAML', 'Running', [
    'local ./access',
    'local ./access --state ./state --metrics-port 9464',
  ])
    .option('--drain <seconds>', 'how long sessions may go on after Ctrl-C; default 5')
    .option('--metrics-port <port>', 'serve /metrics, /healthz and /readyz on this loopback port')
    .addOption(
      new Option('--log-level <level>', 'least level that is logged')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('warn'),
    )
    .action(
      run(async (context, [directory], options) => {
        const [{ local }, { loadClassifier }, { createPostgresProtocol }, ssh, { exportCatalog }] = await Promise.all([
          import('./verbs/local.ts'),
          import('../protocols/postgres/classify/classify.ts'),
          import('../protocols/postgres/protocol.ts'),
          import('../protocols/ssh/protocol.ts'),
          import('./local/catalog.ts'),
        ]);
        await loadClassifier(); // before any client comes: until then nothing would be understood
        const { prefix: commandPrefix } = context;
        const protocols = [createPostgresProtocol({ commandPrefix }), ssh.createSshProtocol({ commandPrefix })];
        outcome.leave = true;
        return local(context.io, directory!, options, protocols, exportCatalog);
      }),
    );
}

/** What a failure means for the person and for scripts. */
export function tellFailure(io: Io, error: unknown, verb?: string): ExitCode {
  const prefix = commandPrefix(io.env);
  if (error instanceof CommanderError) {
    // Help and version were asked for; everything else is a mistake in the command line.
    if (error.exitCode === 0) return EXIT.ok;
    if (error.code === 'commander.help') return EXIT.misconfigured;
    io.err(
      `${prefix}: ${error.message.replace(/^error: /, '')}\nhint: ${prefix}${verb === undefined ? '' : ` ${verb}`} --help\n`,
    );
    return EXIT.misconfigured;
  }
  if (error instanceof CliError) {
    io.err(`${prefix}: ${error.message}\n`);
    if (error.hint)
      io.err(
        `${error.hint
          .split('\n')
          .map((each) => `hint: ${each}`)
          .join('\n')}\n`,
      );
    return error.exitCode;
  }
  io.err(`${prefix}: ${error instanceof Error ? error.message : String(error)}\n`);
  if (io.env['SALLYPORT_DEBUG'] && error instanceof Error) io.err(`${error.stack ?? ''}\n`);
  return EXIT.failed;
}

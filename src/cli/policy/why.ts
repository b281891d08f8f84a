// `sallyport why`: why a statement would be decided as it would, for somebody, now; or why a past command was denied,
// by the id that the person was told. Exit code 0: explained (whatever the decision); 1: nothing found; 78: bad arguments.

import { compilePolicies } from '../../policy/compile.ts';
import { decideAll, decideNotUnderstood } from '../../policy/decide.ts';
import type { Decision } from '../../policy/decision.ts';
import { eligiblePolicy } from '../../policy/eligibility.ts';
import { decisionText, type Explanation, explain, explanationText } from '../../policy/explain.ts';
import { prepareSessionPolicy } from '../../policy/prepare-session.ts';
import type { Principal } from '../../policy/principal.ts';
import type { TestProtocol, TestWorld } from '../../policy/testing/run.ts';
import { safeText } from '../../policy/wording.ts';
import type { CommandBody } from '../../recording/envelope.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { jsonText } from '../render.ts';

export interface WhyArgs {
  /** A denial's id, `d-51c0`, or the statement itself. */
  subject: string;
  as: Principal;
  /** `namespace/name`; for a statement. */
  connection?: string | undefined;
  account?: string | undefined;
  /** Name of an AccessPolicy. */
  policy?: string | undefined;
  /** `table` (default) or `json`. */
  output?: string | undefined;
}

/** A denied command as its record tells it. */
export interface PastDenial {
  denial: string;
  /** RFC 3339. */
  at: string;
  session: string;
  user: string;
  /** `namespace/name`. */
  connection: string;
  command: Pick<CommandBody, 'verb' | 'text' | 'code' | 'by' | 'message' | 'warnings'>;
}

export interface WhyDeps {
  /** What is in force now. */
  world(): Promise<Omit<TestWorld, 'protocolFor'>>;
  findDenial(id: string): Promise<PastDenial | undefined>;
  protocols?: () => Promise<ReadonlyMap<string, TestProtocol>>;
}

export async function why(args: WhyArgs, io: Io, deps: WhyDeps): Promise<ExitCode> {
  if (/^d-[0-9a-z]+$/.test(args.subject)) return whyDenied(args, io, deps);
  return whyStatement(args, io, deps);
}

async function whyDenied(args: WhyArgs, io: Io, deps: WhyDeps): Promise<ExitCode> {
  const found = await deps.findDenial(args.subject);
  if (found === undefined) {
    throw new CliError(
      EXIT.failed,
      `There is no record of denial ${args.subject}`,
      'Ids are told with each refusal; records may have been pruned.',
    );
  }
  if (args.output === 'json') {
    io.out(`${jsonText(found, 2)}\n`);
    return EXIT.ok;
  }
  const { command } = found;
  const by = command.by?.[0];
  const lines: [string, string][] = [
    ['Denial', found.denial],
    ['When', found.at],
    ['Who', safeText(found.user)],
    ['Where', `${found.connection}, session ${found.session}`],
    ['What', safeText(command.text.replace(/\s+/g, ' ').trim(), 400)],
    ['Told', safeText(command.message ?? '', 600)],
    ['Why', by === undefined ? (command.code ?? 'no rule is recorded') : `policy ${by.policy}, rule "${by.rule}"`],
  ];
  const widest = Math.max(...lines.map(([name]) => name.length));
  io.out(lines.map(([name, value]) => `${name.padEnd(widest)}   ${value}\n`).join(''));
  return EXIT.ok;
}

async function whyStatement(args: WhyArgs, io: Io, deps: WhyDeps): Promise<ExitCode> {
  const world = await deps.world();
  const connection =
    args.connection === undefined && world.connections.length === 1
      ? world.connections[0]
      : world.connections.find(({ metadata }) => `${metadata.namespace}/${metadata.name}` === args.connection);
  if (connection === undefined) {
    const known = world.connections.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`).join(', ');
    const message =
      args.connection === undefined
        ? 'Say which Connection it is about'
        : `There is no Connection ${safeText(args.connection)}`;
    throw new CliError(
      EXIT.misconfigured,
      message,
      known === '' ? 'There is none; is the directory the right one?' : `Write --connection with one of ${known}.`,
    );
  }
  const protocol = (await (deps.protocols ?? (await import('./test.ts')).allTestProtocols)()).get(connection.spec.type);
  if (protocol === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `Statements for ${connection.spec.type} can not be explained in this version`,
    );
  }
  const shard = compilePolicies({ ...world, connection, protocol: protocol.rules });
  const chosen = eligiblePolicy({
    shard,
    policies: world.policies,
    request: {
      principal: args.as,
      ...(args.account === undefined ? {} : { account: args.account }),
      ...(args.policy === undefined ? {} : { policyRef: args.policy }),
    },
  });
  if (chosen.kind === 'NotEligible') {
    if (args.output === 'json') io.out(`${jsonText(chosen, 2)}\n`);
    else io.out(`${chosen.message}\n${chosen.hint}\n`);
    return EXIT.ok;
  }
  const request = { policy: chosen.compiled.name, principal: args.as, account: chosen.account, generation: 1 };
  const session = prepareSessionPolicy(shard, request, protocol.rules);
  const classified = protocol.classify(args.subject, {
    schema: undefined,
    parameters: [],
    connection: shard.connection.spec,
    account: chosen.account,
  });
  const commands = classified.kind === 'Commands' ? classified.commands : [];
  const decision: Decision =
    classified.kind === 'NotUnderstood'
      ? decideNotUnderstood(session, classified.reason)
      : decideAll(session, commands);
  const explanations: Explanation[] = commands.map((command) => explain(session, command, protocol.rules));
  if (args.output === 'json') {
    io.out(
      `${jsonText({ policy: chosen.compiled.name, account: chosen.account, decision, statements: explanations }, 2)}\n`,
    );
    return EXIT.ok;
  }
  io.out(
    `${safeText(args.as.username)} on ${shard.connection.namespace}/${shard.connection.name} as ${chosen.account}, under policy ${chosen.compiled.name}: ${decisionText(decision)}\n`,
  );
  if (classified.kind === 'NotUnderstood') io.out(`The statement was not understood: ${classified.reason}\n`);
  for (const explanation of explanations) io.out(`\n${explanationText(explanation)}`);
  return EXIT.ok;
}

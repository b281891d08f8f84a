// How the verbs are called by which people decide about requests, held statements and grants.
import type { Run, Shell, Verb } from './shell.ts';

export function approverVerbs({ verb, run }: Shell): void {
  const group = 'Approving';
  verb('pending', 'requests and held statements that wait for somebody', group, ['pending', 'pending --sign-off'])
    .option('--sign-off', 'emergencies whose review is due')
    .action(run(async (context, _args, options) => (await import('../verbs/views.ts')).pending(context, options)));
  decision(verb, run, 'approve', 'Approve', 'approve a request or a held statement, after showing it', group);
  decision(verb, run, 'deny', 'Deny', 'deny a request or a held statement', group);
  decision(verb, run, 'revoke', 'Revoke', 'end a grant that is in force', group);
  decision(verb, run, 'sign-off', 'SignOff', 'sign off a grant that was taken by break-glass', group);
  verb('holds', 'statements that were held', group).action(
    run(async (context) => (await import('../verbs/views.ts')).holds(context)),
  );
}

export function decision(
  verb: Verb,
  run: Run,
  name: string,
  kind: 'Approve' | 'Deny' | 'Revoke' | 'Withdraw' | 'SignOff',
  summary: string,
  group: string,
): void {
  verb(`${name} <name>`, summary, group, [
    `${name} orders-db-7fk2p`,
    ...(kind === 'Deny' ? [`${name} h-3b7 --reason "add a WHERE"`] : []),
  ])
    .option('--reason <text>', 'told to whom it concerns')
    .option('-y, --yes', 'do not ask')
    .action(
      run(async (context, [target], options) =>
        (await import('../verbs/decide.ts')).decide(context, kind, target!, options),
      ),
    );
}

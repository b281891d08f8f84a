// How the verbs are called that see and end what runs.
import type { Shell } from './shell.ts';

export function securityVerbs({ verb, run }: Shell): void {
  const group = 'Security';
  verb('sessions', 'live sessions', group).action(
    run(async (context) => (await import('../verbs/views.ts')).sessions(context)),
  );
  verb('kill <id...>', 'cut sessions', group, ['kill s-5w2mc']).action(
    run(async (context, ids) => (await import('../verbs/security.ts')).kill(context, ids)),
  );
  verb('lock', 'end sessions and refuse new ones until unlocked', group, [
    'lock --user mallory@corp.example --reason "laptop stolen"',
    'lock --connection orders-db --for 2h --reason "restore in progress"',
  ])
    .option('--user <name>', 'somebody, by any of their names')
    .option('--group <name>', 'whoever is in the group or was at login')
    .option('--connection <name>', 'one Connection')
    .option('--everything', 'every Connection of the namespace')
    .option('--reason <text>', 'told to those it reaches')
    .option('--for <duration>', 'how long; default until unlocked')
    .action(run(async (context, _args, options) => (await import('../verbs/security.ts')).lock(context, options)));
  verb('unlock <name>', 'lift a lock', group, ['unlock lock-7fk2p']).action(
    run(async (context, [name]) => (await import('../verbs/security.ts')).unlock(context, name!)),
  );
}

// A shell, exec or subsystem request: judged, answered, and started where it may run.
import { commandOfExec, commandOfShell, commandOfSubsystem } from '../commands.ts';
import type { SshCommand } from '../facts.ts';
import { readData } from '../wire/data.ts';
import type { SessionChannel } from './channel.ts';
import { judge } from './judge.ts';
import type { Reply } from './replies.ts';
import { type StartRequest, startAtTarget } from './start.ts';

/** One a channel: a second one is refused. */
export function beginCommand(
  channel: SessionChannel,
  type: StartRequest['type'],
  rest: Buffer,
  reply: Reply | undefined,
): void {
  if (channel.phase !== 'Fresh') return reply?.settle(false);
  const { core } = channel;
  const argument = type === 'shell' ? undefined : Buffer.from(readData(rest).string());
  const command = commandOf(channel, type, argument);
  channel.phase = 'Judging';
  const judging = judge({
    core,
    channel: channel.number,
    command,
    extras: channel.setup.extras(),
    tell: (line) => {
      reply?.settle(true);
      channel.tell(line);
    },
  });
  channel.judging = judging;
  void judging.outcome.then((judged) => {
    channel.judging = undefined;
    if (core.ending || judged.kind === 'Gone') return;
    channel.recordAs(judged.id, command);
    if (judged.kind === 'Refused') {
      // Nothing ran: there is no result but the refusal.
      channel.recorder = undefined;
      if (channel.phase === 'Over') return;
      reply?.settle(true);
      for (const line of judged.lines) channel.tell(line);
      channel.finish(judged.exitStatus);
      return;
    }
    if (channel.phase === 'Over')
      return channel.recorder?.ended({ code: 'Withdrawn', message: 'the client closed the channel' });
    startAtTarget(channel, { type, argument }, command, reply);
  });
}

function commandOf(channel: SessionChannel, type: StartRequest['type'], argument: Buffer | undefined): SshCommand {
  const { user, context, services } = channel.core;
  const pty = channel.pty !== undefined;
  if (argument === undefined) return commandOfShell({ user, pty });
  if (type === 'subsystem') return commandOfSubsystem({ user, name: argument.toString('utf8') });
  const loginShell = context.connection.spec.ssh?.loginShell;
  return commandOfExec(argument, { user, loginShell, pty, transfer: services.transferOf(argument) });
}

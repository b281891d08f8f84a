// From "it may run" to "it runs": the target's channel, terminal, variables, and the one request that starts something.
// The terminal is waited for: a command that expects one must not run without.
import type { SshCommand } from '../facts.ts';
import { UpstreamError } from '../upstream/error.ts';
import { LARGEST_PACKET, type SessionChannel } from './channel.ts';
import { channelOpen, channelRequest } from './messages.ts';
import type { Reply } from './replies.ts';
import { ptyRequest } from './setup.ts';
import { EXIT_REFUSED, EXIT_UNREACHABLE } from './wording.ts';

export interface StartRequest {
  type: 'shell' | 'exec' | 'subsystem';
  /** The command line or the subsystem's name, as the client sent it. */
  argument: Buffer | undefined;
}

/** Nobody need wait for it: whatever happens is told to the client and recorded. */
export function startAtTarget(
  channel: SessionChannel,
  request: StartRequest,
  command: SshCommand,
  reply: Reply | undefined,
): void {
  run(channel, request, command, reply).catch((error: unknown) => {
    if (channel.core.ending || channel.isOver) return;
    if (!(error instanceof StartError)) {
      channel.core.context.log('error', 'a command could not be started', { error: String(error) });
      channel.core.fail('Internal', 'Sallyport could not start a command');
      return;
    }
    reply?.settle(true);
    for (const line of error.lines) channel.tell(line);
    channel.recorder?.ended({ code: error.code, message: error.lines[0] ?? '' });
    channel.finish(error.exitStatus);
  });
}

class StartError extends Error {
  readonly code: string;
  readonly lines: readonly string[];
  readonly exitStatus: number;
  constructor(code: string, lines: readonly string[], exitStatus = EXIT_UNREACHABLE) {
    super(lines[0]);
    this.name = 'StartError';
    this.code = code;
    this.lines = lines;
    this.exitStatus = exitStatus;
  }
}

async function run(
  channel: SessionChannel,
  { type, argument }: StartRequest,
  command: SshCommand,
  reply: Reply | undefined,
): Promise<void> {
  const { core } = channel;
  // What goes with it may still be waiting for somebody's consent.
  await channel.features.judged();
  if (core.ending || channel.isOver) return;
  try {
    await core.upstream();
  } catch (error) {
    if (!(error instanceof UpstreamError)) throw error;
    throw new StartError('TargetUnavailable', [error.message, ...(error.hint === undefined ? [] : [error.hint])]);
  }
  if (core.ending || channel.isOver) return;
  await open(channel);
  if (core.ending || channel.isOver) return;
  const { target, pty } = channel;
  if (pty !== undefined) {
    const given = await answered(channel, ptyRequest(0, pty));
    if (core.ending || channel.isOver) return;
    if (!given)
      throw new StartError('NoTerminal', [
        'Sallyport: the target gives no terminal; nothing was run. Try it with ssh -T.',
      ]);
  }
  for (const feature of channel.features.allowed) {
    channel.features.answered(feature, await answered(channel, channel.features.requestOf(feature)));
    if (core.ending || channel.isOver) return;
  }
  // Between the decision and here lies a dial and a login.
  const gate = core.session.gate();
  if (gate !== undefined) throw new StartError(gate.code, [gate.message], EXIT_REFUSED);
  for (const { name, value } of channel.setup.variables)
    target.send(channelRequest(0, 'env', false, { string: name }, { string: value }));
  channel.filtered(command);
  channel.expecting = {
    answered(success) {
      if (success) return reply?.settle(true);
      channel.recorder?.ended({ code: 'TargetRefused', message: `the target refused the ${type} request` });
      if (reply?.isSettled === false) reply.settle(false);
      else channel.tell(`Sallyport: the target refused the ${type} request.`);
      channel.finish(EXIT_UNREACHABLE);
    },
  };
  const rest = argument === undefined ? [] : [{ string: argument }];
  target.send(channelRequest(0, type, true, ...rest));
  core.started(command);
  channel.live();
}

async function open(channel: SessionChannel): Promise<void> {
  const { core } = channel;
  const refusal = await new Promise<string | undefined>((resolve) => {
    channel.phase = 'Opening';
    channel.expecting = { opened: resolve };
    channel.target.opening();
    core.toTarget(
      channelOpen({
        type: 'session',
        sender: channel.number,
        window: channel.toClient.firstGrant(),
        maxPacket: Math.min(channel.clientMaxPacket, LARGEST_PACKET),
      }),
    );
  });
  channel.expecting = {};
  if (refusal !== undefined)
    throw new StartError('TargetRefused', [
      `Sallyport: the target opens no session: ${refusal}`,
      'Its MaxSessions may be lower than the sessions that are open; use another connection.',
    ]);
}

function answered(channel: SessionChannel, request: Buffer): Promise<boolean> {
  return new Promise((resolve) => {
    channel.expecting = { answered: resolve };
    channel.target.send(request);
  });
}

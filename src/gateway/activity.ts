// When a session last did something: a byte either way, or a command whose result is still due. Sampled, because a
// listener on the socket's data would be in the protocol's way; idleness is therefore known to about a second.
import type { Socket } from 'node:net';
import type { CommandBody, ResultBody } from '../recording/envelope.ts';
import type { ConstantMembers, SessionRecorder } from '../recording/recorder.ts';
import type { Clock } from '../system/clock.ts';

export interface Activity {
  sample(): void;
  lastMs(): number;
  /** 0 while the latest command has no result yet: somebody who waits for a long statement is not idle. */
  idleMs(): number;
  /** Wraps the session's recorder to learn of commands and results. */
  recorder(inner: SessionRecorder): SessionRecorder;
}

/** Effects of commands that last until somebody ends them. */
const LASTING: ReadonlySet<string> = new Set([
  'Connect tcp',
  'Connect listen',
  'Connect socket',
  'Session shell',
  'Session agent',
  'Session x11',
]);

const shared = (constant: ConstantMembers | undefined): CommandBody['effects'] =>
  (constant?.members['effects'] as CommandBody['effects'] | undefined) ?? [];

export function trackActivity(socket: Socket, clock: Clock): Activity {
  let bytes = 0;
  let lastMonotonic = clock.monotonic();
  let lastMs = clock.now();
  let pending: number | undefined;
  const touch = (): void => {
    lastMonotonic = clock.monotonic();
    lastMs = clock.now();
  };
  return {
    sample() {
      const now = socket.bytesRead + socket.bytesWritten;
      if (now !== bytes || pending !== undefined) touch();
      bytes = now;
    },
    lastMs: () => lastMs,
    idleMs: () => (pending === undefined ? clock.monotonic() - lastMonotonic : 0),
    recorder: (inner) => ({
      append(kind, body, channel, constant) {
        if (kind === 'command') {
          // Members that many records share come beside the body (`ConstantMembers`).
          const { id, decision, effects = shared(constant) } = body as Partial<CommandBody>;
          // What lasts until somebody ends it (a shell, a forward) is waited for by nobody: its bytes tell of its use.
          const lasts =
            effects.length > 0 && effects.every(({ action, object }) => LASTING.has(`${action} ${object[0]}`));
          pending = decision === 'Deny' || lasts ? undefined : id;
        } else if (kind === 'result' && (body as ResultBody).id === pending) pending = undefined;
        inner.append(kind, body, channel, constant);
      },
      whenWritten: (callback) => inner.whenWritten(callback),
      get writable() {
        return inner.writable;
      },
      close: () => inner.close(),
    }),
  };
}

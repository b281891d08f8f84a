// What is known of one SSH command before it is decided. Rules (rules.ts) read these, and records keep them.
import type { Command } from '../../policy/command.ts';
import type { ShellFacts } from './shell/facts.ts';

export const SSH = 'ssh';

export type SshFacts = {
  /** The target's user. */
  user: string;
} & (
  | ExecFacts
  /** A login shell, `ssh host`. */
  | { kind: 'Shell'; pty: boolean }
  | { kind: 'Subsystem'; name: string }
  | FileFacts
  | ForwardFacts
  /** A variable the client wants set. */
  | { kind: 'Environment'; name: string }
  /** agent, x11, tun: what is only ever let through by its name. */
  | { kind: 'Feature'; feature: 'AgentForwarding' | 'X11Forwarding' | 'Tunnel' }
);

export interface ExecFacts {
  kind: 'Exec';
  /** Absent: it could not be understood, `problem` says why. */
  shell?: ShellFacts;
  problem?: string;
  /** The target's shell is none that we know (`loginShell: Other`): rules compare the whole line. */
  whole?: true;
  /** The line starts one of these and nothing else, and each of its file operations is judged by itself. */
  transfer?: FileFacts['via'];
  pty: boolean;
}

/** One operation on files, by sftp, scp or rsync. */
export interface FileFacts {
  kind: 'File';
  via: 'sftp' | 'scp' | 'rsync';
  /** `OPEN`, `RENAME`, `SETSTAT`, as the protocol calls it. */
  operation: string;
  access: readonly FileAccess[];
}

export interface FileAccess {
  action: 'Read' | 'Write' | 'Grant';
  /** As the client spelled it, made absolute and without `.` and `..`; bytes as latin1. */
  path: string;
  /** What the target says it is once links are followed; absent where nothing follows or nobody was asked yet. */
  resolved?: string;
  /** The operation reaches whatever lies below. */
  subtree: boolean;
}

export interface ForwardFacts {
  kind: 'Forward';
  /** Local: the target dials (`-L -D -W`). Remote: the target listens (`-R`). */
  direction: 'Local' | 'Remote';
  destination: ForwardDestination;
  /** What only a pattern that spells the destination out permits: a cloud's metadata, a way around the gateway. */
  guarded?: 'Metadata' | 'SshServer';
}

/** Canonical form. `host` is lower case, without a final dot. */
export type ForwardDestination =
  | { kind: 'Address'; address: string; port: number }
  /** The target resolves it: no address range permits it, and any address range may deny it. */
  | { kind: 'Name'; host: string; port: number }
  | { kind: 'Socket'; path: string };

export type SshCommand = Command<SshFacts>;

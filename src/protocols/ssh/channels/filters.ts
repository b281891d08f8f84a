// Which commands are judged operation by operation inside their channel, and by what.
import type { SshCommand } from '../facts.ts';
import type { ChannelFilter, FilterHost } from './filter.ts';

/** undefined: its bytes pass as they are. */
export function filterFor(_command: SshCommand, _host: FilterHost): ChannelFilter | undefined {
  return undefined;
}

export function transferOf(_line: Buffer): 'sftp' | 'scp' | 'rsync' | undefined {
  return undefined;
}

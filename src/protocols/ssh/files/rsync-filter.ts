// rsync tells by its arguments what it may touch: that is judged once, before its first byte passes either way.
//
// Does not guarantee: which files it touched, or where links below its paths lead; its own protocol is not read. (Without
// the options that count as hidden it follows none but those.) Where the arguments do not tell all (RsyncCommand.hidden),
// everything at the target counts as touched.
import type { ChannelFilter, FilterHost } from '../channels/filter.ts';
import type { FileAccess } from '../facts.ts';
import { fileCommand } from './command.ts';
import { type RsyncCommand, rsyncPlaces } from './command-line.ts';
import { type AskTarget, accessTo, LookupError, ledBy } from './lookup.ts';
import { shownPath } from './paths.ts';

/** Exit status where policy refused, as of a refused exec. */
const REFUSED = 77;
/** Of rsync: it could not select its files. */
const FAILED = 3;

export function createRsyncFilter(host: FilterHost, command: RsyncCommand, askTarget: AskTarget): ChannelFilter {
  const kept: { client: Buffer[]; target: Buffer[] } = { client: [], target: [] };
  const held = { client: 0, target: 0 };
  const bytes = { read: 0, written: 0 };
  let state: 'Judging' | 'Open' | 'Over' = 'Judging';
  let eof = false;
  let id: number | undefined;

  const pass = (side: 'client' | 'target', data: Buffer): void => {
    if (side === 'client') {
      bytes.written += data.length;
      host.toTarget(data);
    } else {
      bytes.read += data.length;
      host.toClient(data);
    }
  };
  const feed = (side: 'client' | 'target', data: Buffer): void => {
    if (state === 'Open') return pass(side, data);
    if (state === 'Over') return;
    kept[side].push(data);
    held[side] += data.length;
  };
  const isOver = (): boolean => state === 'Over';
  const drop = (): void => {
    state = 'Over';
    kept.client = [];
    kept.target = [];
    held.client = 0;
    held.target = 0;
  };

  async function begin(): Promise<void> {
    const access = await accessOf(command, askTarget);
    if (isOver()) return;
    const verdict = await host.judge(
      fileCommand(host.user, 'rsync', command.direction === 'Read' ? 'SEND' : 'RECEIVE', access),
    );
    if (isOver() || verdict.kind === 'Gone') {
      if (verdict.kind === 'Run') host.result(verdict.id, { error: { code: 'Ended', message: 'the channel ended' } });
      return;
    }
    if (verdict.kind === 'Refused') {
      for (const line of verdict.lines) host.tell(line);
      if (command.hidden !== undefined)
        host.tell(
          `Its arguments do not tell the paths: ${command.hidden}. Where paths are restricted, use it without.`,
        );
      drop();
      host.finish(REFUSED);
      return;
    }
    id = verdict.id;
    state = 'Open';
    for (const data of kept.client.splice(0)) pass('client', data);
    for (const data of kept.target.splice(0)) pass('target', data);
    held.client = 0;
    held.target = 0;
    if (eof) host.eofToTarget();
  }
  begin().catch((error: unknown) => {
    drop();
    if (!(error instanceof LookupError)) return host.fail('Client', 'rsync: it could not be judged');
    host.tell(`Sallyport: ${error.message}.`);
    host.finish(FAILED);
  });

  return {
    fromClient: (data) => feed('client', data),
    fromTarget: (data) => feed('target', data),
    clientEof() {
      if (eof) return;
      eof = true;
      if (state === 'Open') host.eofToTarget();
    },
    targetEof() {},
    heldBytes: held,
    closed() {
      drop();
      if (id !== undefined)
        host.result(id, {
          bytes: bytes.read + bytes.written,
          facts: { ssh: { fromTarget: bytes.read, toTarget: bytes.written } },
        });
      id = undefined;
    },
  };
}

async function accessOf(command: RsyncCommand, askTarget: AskTarget): Promise<readonly FileAccess[]> {
  if (command.hidden !== undefined) {
    const everything = { path: '/', subtree: true };
    return [
      { action: 'Read', ...everything },
      ...(command.direction === 'Write' || command.deletes ? [{ action: 'Write' as const, ...everything }] : []),
      ...(command.grants ? [{ action: 'Grant' as const, ...everything }] : []),
    ];
  }
  const teller = await askTarget();
  try {
    return await Promise.all(
      rsyncPlaces(command).map(async ({ action, spelled }): Promise<FileAccess> => {
        const led = await ledBy(teller, spelled);
        if (led.problem !== undefined && action !== 'Read')
          throw new LookupError(`the target says of ${shownPath(spelled)}: ${led.problem}`);
        return accessTo(led, action, true);
      }),
    );
  } finally {
    teller?.done();
  }
}

// The listeners' TLS material, replaced before it ends. Handshakes read `current()`, so a rotation needs no restart and
// cuts nobody.
import type { ServerTls } from '../../protocols/protocol.ts';
import type { Clock } from '../../system/clock.ts';
import type { Log } from '../runtime.ts';
import type { Authority, Issued } from './authority.ts';

const LIFE_MS = 7 * 86_400_000;
const RETRY_MS = 60_000;

export async function openServerTls(options: {
  authority: Authority;
  names: readonly string[];
  clock: Clock;
  log: Log;
}): Promise<ServerTls & { stop(): void }> {
  const { authority, names, clock, log } = options;
  let issued: Issued = await authority.issue(names, LIFE_MS);
  let cancel: () => void = () => undefined;
  let stopped = false;
  const arm = (ms: number): void => {
    cancel = clock.after(ms, () => {
      authority.issue(names, LIFE_MS).then(
        (next) => {
          issued = next;
          if (!stopped) arm((LIFE_MS * 2) / 3);
        },
        (error: unknown) => {
          log('error', 'the listeners’ certificate could not be renewed; it is tried again', { error: String(error) });
          if (!stopped) arm(RETRY_MS);
        },
      );
    });
  };
  arm((LIFE_MS * 2) / 3);
  return {
    current: () => ({ key: issued.key, cert: issued.cert }),
    stop() {
      stopped = true;
      cancel();
    },
  };
}

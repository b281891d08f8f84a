// Between "authenticated" and the layer above there may be a turn of the event loop, or several: what comes meanwhile waits here.
import type { Transport } from '../transport/transport.ts';

type CloseEnd = Parameters<Transport['onClose']>[0];

export interface HandOver {
  /** Once: gives the transport its new owner, and tells it first of what came meanwhile, in order. */
  (handlers: { onMessage: (payload: Buffer) => void; onClose: (end: CloseEnd) => void }): void;
}

/** Takes the transport's messages from now on, until the answer is called. Pauses reading beyond `mostBytes`. */
export function keepForOwner(transport: Transport, mostBytes = 256 * 1024): HandOver {
  const early: Buffer[] = [];
  let bytes = 0;
  let paused = false;
  let end: CloseEnd | undefined;
  transport.onMessage = (payload) => {
    early.push(payload);
    bytes += payload.length;
    if (bytes > mostBytes && !paused) {
      paused = true;
      transport.pause();
    }
  };
  transport.onClose = (how) => {
    end = how;
  };
  return ({ onMessage, onClose }) => {
    transport.onMessage = onMessage;
    transport.onClose = onClose;
    for (const payload of early.splice(0)) onMessage(payload);
    if (paused) transport.resume();
    if (end !== undefined) onClose(end);
  };
}

// Tells a page that something changed, by server-sent events. What changed is not in the event: the page looks again,
// as the person it belongs to. Guarantees: few streams a session and all together; a stream ends with its session, after
// an hour at the latest, and where its reader does not read.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { HttpError } from '../system/http-error.ts';
import type { BrowserSession } from './browser-sessions.ts';
import type { Portal } from './portal.ts';

const MOST_PER_SESSION = 6;
const MOST = 1_024;
const BEAT_MS = 20_000;
const LONGEST_MS = 3_600_000;
const MOST_BUFFERED = 64 * 1024;
let open = 0;

export function streamEvents(
  portal: Portal,
  session: BrowserSession,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  if (open >= MOST)
    throw new HttpError(503, 'Too many pages follow what happens.', 'Reload the page from time to time.');
  // Of a browser with many pages the oldest gives way; it asks again once it is looked at.
  if (session.streams.size >= MOST_PER_SESSION) session.streams.values().next().value?.();
  const { clock } = portal;
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  });
  open += 1;
  let ended = false;
  let cancelBeat: () => void = () => undefined;
  const startedMs = clock.monotonic();
  const write = (text: string): void => {
    response.write(text);
    if (response.writableLength > MOST_BUFFERED) end();
  };
  const stop = portal.world.onChange(() => write('data: changed\n\n'));
  const end = (): void => {
    if (ended) return;
    ended = true;
    open -= 1;
    stop();
    cancelBeat();
    session.streams.delete(end);
    response.end();
    // One who does not read is not waited for.
    request.socket.destroySoon();
  };
  const beat = (): void => {
    cancelBeat = clock.after(BEAT_MS, () => {
      if (clock.monotonic() - startedMs > LONGEST_MS) return end();
      write(': still here\n\n');
      if (!ended) beat();
    });
  };
  session.streams.add(end);
  request.on('close', end);
  response.on('error', end);
  write('retry: 2000\n\n');
  beat();
}

// Renders moments of a channel as asciicast v3 (https://docs.asciinema.org/manual/asciicast/v3): a header, then one JSON
// array a line with the seconds since the line before. Output is sanitised: players write it to people's terminals.
import type { StartBody } from '../envelope.ts';
import { harmlessLine } from '../text.ts';
import { createSanitiser } from './sanitiser.ts';
import type { Moment } from './timeline.ts';

export interface Cast {
  /** Lines, each with its newline; nothing before `Begin`. */
  add(moment: Moment): string;
  /** Puts the player's terminal back. */
  end(): string;
}

export function createCast(session: string, start: StartBody | undefined): Cast {
  const sanitiser = createSanitiser();
  let beforeMs: number | undefined;

  const event = (atMs: number, code: 'o' | 'r' | 'm' | 'x', data: string): string => {
    // Clocks may be set back; players know no negative time.
    const interval = Math.max(0, atMs - beforeMs!) / 1000;
    beforeMs = Math.max(beforeMs!, atMs);
    return `${JSON.stringify([interval, code, data])}\n`;
  };

  return {
    add(moment) {
      if (moment.kind === 'Begin') {
        if (beforeMs !== undefined) return '';
        beforeMs = moment.atMs;
        return `${JSON.stringify({
          version: 3,
          term: { cols: moment.columns, rows: moment.rows, ...(moment.term ? { type: moment.term } : {}) },
          timestamp: Math.floor(moment.atMs / 1000),
          ...(moment.command === '' ? {} : { command: moment.command }),
          title: titleOf(session, start),
        })}\n`;
      }
      if (beforeMs === undefined) return '';
      switch (moment.kind) {
        case 'Output': {
          const text = sanitiser.push(moment.text);
          return text === '' ? '' : event(moment.atMs, 'o', text);
        }
        case 'Resize':
          return event(moment.atMs, 'r', `${moment.columns}x${moment.rows}`);
        case 'Marker':
          return event(moment.atMs, 'm', moment.label);
        case 'Exit': {
          const back = sanitiser.end();
          return (back === '' ? '' : event(moment.atMs, 'o', back)) + event(moment.atMs, 'x', String(moment.status));
        }
      }
    },
    end() {
      const back = sanitiser.end();
      return beforeMs === undefined || back === '' ? '' : event(beforeMs, 'o', back);
    },
  };
}

function titleOf(session: string, start: StartBody | undefined): string {
  if (start === undefined) return session;
  const { principal, connection, account } = start;
  return harmlessLine(`${principal.username} on ${connection.namespace}/${connection.name} as ${account} (${session})`);
}

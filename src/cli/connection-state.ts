// What is in the way of a Connection, in one word and one sentence, for every table that shows them. Pure.
import type { Connection } from '../api/connection.ts';

export interface ConnectionState {
  /** `Ready`, `Starting` while nothing is known, else the reason. */
  word: string;
  /** Empty where nothing is wrong. */
  problem: string;
}

/** The first thing that has to be put right: what is written wrong before where it is served, and that before the target. */
export function connectionState({ status }: Pick<Connection, 'status'>): ConnectionState {
  const conditions = ['Accepted', 'Programmed', 'Ready'].map((type) =>
    status?.conditions?.find((each) => each.type === type),
  );
  const wrong = conditions.find((each) => each?.status === 'False');
  if (wrong !== undefined) return { word: wrong.reason, problem: wrong.message };
  const ready = conditions[2];
  return ready?.status === 'True' ? { word: 'Ready', problem: '' } : { word: ready?.reason ?? 'Starting', problem: '' };
}

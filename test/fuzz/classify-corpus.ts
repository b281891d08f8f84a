// One statement or more of every kind that PostgreSQL's grammar has, with the tag and the effects it must be given.
// `Action object` pairs, comma separated; order is that of the statement's own text and does not matter.
import { DATA_STATEMENTS } from './classify-corpus/data.ts';
import { DEFINITION_STATEMENTS } from './classify-corpus/definitions.ts';
import { SESSION_STATEMENTS } from './classify-corpus/session.ts';

export interface CorpusEntry {
  sql: string;
  tag: string;
  effects: string;
  /** Kind of the raw parse node. */
  kind: string;
}

export const CORPUS: readonly CorpusEntry[] = [...DATA_STATEMENTS, ...SESSION_STATEMENTS, ...DEFINITION_STATEMENTS].map(
  ([kind, tag, sql, effects]) => ({ kind, tag, sql, effects }),
);

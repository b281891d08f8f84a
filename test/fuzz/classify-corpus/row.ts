// One statement of the corpus; effects are `Action object` pairs, comma separated, in any order.

/** `kind`: of the raw parse node. */
export type CorpusRow = [kind: string, tag: string, sql: string, effects: string];

// Classifications by text, least recently used first out. Guarantees: never more than `entries` texts nor `bytes` of
// them (a tree is charged a multiple of its text); a text is classified once while it is kept. One cache may serve all
// sessions: a classification depends on the text alone.
import type { Classification } from '../statement.ts';
import { classify } from './classify.ts';

export interface ClassificationCache {
  classify(text: string): Classification;
  readonly size: number;
  readonly bytes: number;
}

/** Measured: a parse tree and facts take about this much heap for each character of SQL. */
const HEAP_PER_CHARACTER = 60;
const ENTRY_OVERHEAD = 1024;

export function createClassificationCache(
  options: { entries?: number; bytes?: number; statementBytes?: number; classify?: typeof classify } = {},
): ClassificationCache {
  const most = { entries: options.entries ?? 4096, bytes: options.bytes ?? 16 * 1024 * 1024 };
  const limits = options.statementBytes === undefined ? {} : { statementBytes: options.statementBytes };
  const work = options.classify ?? classify;
  const kept = new Map<string, Classification>();
  let bytes = 0;
  // A Map iterates in order of insertion: taking out and putting back makes an entry the youngest.
  let youngest: string | undefined;
  const cost = (text: string) => ENTRY_OVERHEAD + text.length * HEAP_PER_CHARACTER;
  return {
    classify(text) {
      const known = kept.get(text);
      if (known !== undefined) {
        if (text !== youngest) {
          kept.delete(text);
          kept.set(text, known);
          youngest = text;
        }
        return known;
      }
      const result = work(text, limits);
      const own = cost(text);
      // What is not understood may be understood the next time (the parser was starting), and costs no execution.
      if (result.kind === 'NotUnderstood' || own > most.bytes / 4) return result;
      kept.set(text, result);
      youngest = text;
      bytes += own;
      for (const oldest of kept.keys()) {
        if (kept.size <= most.entries && bytes <= most.bytes) break;
        kept.delete(oldest);
        bytes -= cost(oldest);
      }
      return result;
    },
    get size() {
      return kept.size;
    },
    get bytes() {
      return bytes;
    },
  };
}

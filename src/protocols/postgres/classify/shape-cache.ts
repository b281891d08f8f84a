// Classifications by shape: texts that differ in literals only, where no literal matters, are classified once.
//
// Guarantees: what is found for a text is what `classify` says of it, but for the statement's own text, tree and length.
// A shape is learned only if (1) each literal that it leaves out is exactly one constant of the parse tree, at that very
// place, so that the grammar has built nothing else from it (as it does of FLOAT(n) or a folded minus); and (2) the
// classification of a tree in which those constants can not be read without notice does not read them. One text then
// stands for all. Memory is bounded. Does not: hold for anything that looks at trees or texts themselves, as masks do.
import type { ClassifiedStatement } from '../statement.ts';
import { type classify, classifyTree } from './classify.ts';
import { parse } from './parser.ts';
import { shapeOf } from './shape.ts';
import { isObject, number, unwrap } from './tree.ts';

/** Settings, cursors, prepared names and COPY hang on more than the text says: they are always read whole. */
const KINDS = new Set(['SelectStmt', 'InsertStmt', 'UpdateStmt', 'DeleteStmt']);

/** Seen: once, and perhaps never again. */
type Entry = 'Seen' | 'Unfit' | readonly ClassifiedStatement[];

export interface ShapeCache {
  /**
   * The statements of another text, of this text's shape, that no literal tells apart from this one's. undefined: none is
   * known, classify the text. The same array for every text of a shape.
   */
  find(text: string): readonly ClassifiedStatement[] | undefined;
  readonly size: number;
}

export function createShapeCache(options: {
  classify: (text: string) => ReturnType<typeof classify>;
  entries?: number;
  bytes?: number;
}): ShapeCache {
  const most = { entries: options.entries ?? 2048, bytes: options.bytes ?? 8 * 1024 * 1024 };
  const kept = new Map<string, Entry>();
  let bytes = 0;
  let youngest: string | undefined;

  const keep = (key: string, entry: Entry): void => {
    if (!kept.delete(key)) bytes += cost(key);
    kept.set(key, entry);
    youngest = key;
    for (const oldest of kept.keys()) {
      if (kept.size <= most.entries && bytes <= most.bytes) break;
      kept.delete(oldest);
      bytes -= cost(oldest);
    }
  };

  return {
    find(text) {
      const shape = shapeOf(text);
      if (shape === undefined || shape.literals.length === 0) return undefined;
      const known = kept.get(shape.key);
      if (known === undefined) {
        keep(shape.key, 'Seen');
        return undefined;
      }
      if (known === 'Seen') {
        const learned = indifferent(text, shape.literals) ? options.classify(text) : undefined;
        keep(shape.key, learned?.kind === 'Statements' ? learned.statements.map(withoutTree) : 'Unfit');
      } else if (shape.key !== youngest) keep(shape.key, known);
      const entry = kept.get(shape.key);
      return typeof entry === 'object' ? entry : undefined;
    },
    get size() {
      return kept.size;
    },
  };
}

/** Of facts that may stand behind a shape; without trees they take a fraction of what those do. */
const HEAP_PER_CHARACTER = 20;
const ENTRY_OVERHEAD = 512;
const cost = (key: string): number => ENTRY_OVERHEAD + key.length * HEAP_PER_CHARACTER;

/** Whoever asks for the tree of one text must not be given another's. */
function withoutTree({ command }: ClassifiedStatement): ClassifiedStatement {
  return { command, tree: undefined };
}

/** Whether the classification of the text is the same whatever its literals, which begin at `literals`, say. */
export function indifferent(text: string, literals: readonly number[]): boolean {
  const outcome = parse(text, text.length);
  const raw = outcome.kind === 'Parsed' && outcome.statements.length === 1 ? outcome.statements[0] : undefined;
  if (!isObject(raw) || number(raw, 'stmt_location') !== 0) return false;
  const top = unwrap(raw.stmt);
  if (top === undefined || !KINDS.has(top.kind)) return false;
  const unmatched = new Set(literals);
  const wanted = new Set(literals);
  let looked = false;
  const notice = {
    get: () => {
      looked = true;
      return undefined;
    },
    has: () => {
      looked = true;
      return false;
    },
    ownKeys: () => {
      looked = true;
      return [];
    },
    getOwnPropertyDescriptor: () => {
      looked = true;
      return undefined;
    },
  };
  const hide = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(hide);
    if (!isObject(value)) return value;
    const out: Record<string, unknown> = {};
    for (const [key, each] of Object.entries(value)) {
      const place = key === 'A_Const' && isObject(each) ? number(each, 'location') : -1;
      if (place > 0 && wanted.has(place)) {
        unmatched.delete(place);
        out[key] = new Proxy({}, notice);
      } else out[key] = hide(each);
    }
    return out;
  };
  try {
    const hidden = hide(raw);
    if (!isObject(hidden) || unmatched.size > 0) return false;
    const statement = classifyTree(hidden, text, text.length);
    const { session, copy, settings } = statement.command.facts;
    return !looked && session === undefined && copy === undefined && settings === undefined;
  } catch {
    return false; // too deep, or not understood: as the whole text will be
  }
}

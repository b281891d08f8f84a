// Text of a YAML file to its documents, each on its own: YAML 1.2.2 (9.1.2, c-forbidden) lets no line that begins with
// `---` stand inside a document, so a mistake in one never changes what another says.
// Guarantees: bounded work for any input (aliases, nesting, length); messages hold no text of the file, since a file
// may hold Secrets. Does not know what the documents mean.
import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isPair,
  isScalar,
  LineCounter,
  type Node,
  parseAllDocuments,
  visit,
  type YAMLError,
} from 'yaml';
import { segments } from '../../api/validate.ts';

/** Largest file that is read, bytes. */
export const LARGEST_FILE = 1024 * 1024;
/** Uses of `*alias` in one document, and how much they may expand to. */
const MOST_ALIASES = 100;
const MOST_DOCUMENTS = 1000;

export interface Position {
  line: number;
  column: number;
}

export type ParsedDocument =
  | {
      kind: 'Value';
      value: unknown;
      /** Where the value at a JSON pointer begins, or what is nearest to it; `key`: where its key begins. */
      locate(pointer: string, key?: boolean): Position;
      text: string;
      lines: Lines;
    }
  | { kind: 'Broken'; position: Position; message: string; hint: string; text: string; lines: Lines };

/** Which lines of the file `text` is: `count` of them after the first `before`. */
export interface Lines {
  before: number;
  count: number;
}

/** Documents of a file in their order; those without content are left out. */
export function parseDocuments(text: string): ParsedDocument[] {
  const documents: ParsedDocument[] = [];
  for (const chunk of chunks(text)) {
    if (documents.length >= MOST_DOCUMENTS) {
      documents.push(
        brokenAt(chunk, 0, 'the file has too many documents', `split it: at most ${MOST_DOCUMENTS} a file`),
      );
      break;
    }
    documents.push(...parseChunkSafely(chunk));
  }
  return documents;
}

interface Chunk {
  text: string;
  /** Lines of the file before it. */
  linesBefore: number;
}

function chunks(text: string): Chunk[] {
  const found: Chunk[] = [];
  let lines: string[] = [];
  let first = 0;
  const all = text.split('\n');
  const flush = (next: number): void => {
    if (lines.some((line) => !/^\s*(#.*)?$|^---\s*(#.*)?$/.test(line)))
      found.push({ text: lines.join('\n'), linesBefore: first });
    lines = [];
    first = next;
  };
  all.forEach((line, index) => {
    if (/^---(\s|$)/.test(line)) flush(index);
    // Directives say nothing here, and they belong to the document that the next `---` begins.
    lines.push(line.startsWith('%') ? `#${line.slice(1)}` : line);
  });
  flush(all.length);
  return found;
}

/** Nesting can exhaust the stack in any of the library's walks; whatever throws, the document is broken. */
function parseChunkSafely(chunk: Chunk): ParsedDocument[] {
  try {
    return parseChunk(chunk);
  } catch {
    return [brokenAt(chunk, 0, 'the document is nested too deeply', 'write it plainly')];
  }
}

function parseChunk(chunk: Chunk): ParsedDocument[] {
  const counter = new LineCounter();
  const result = parseAllDocuments(chunk.text, {
    lineCounter: counter,
    prettyErrors: false, // pretty errors quote the source
    uniqueKeys: true,
    stringKeys: true,
    schema: 'core',
    version: '1.2',
    logLevel: 'silent',
  });
  const parsed: Document.Parsed[] = Array.isArray(result) ? result : [];
  return parsed.flatMap((document): ParsedDocument[] => {
    const error = document.errors[0] ?? document.warnings[0];
    if (error !== undefined) {
      const told = unclosedQuote(document, error) ?? explainSyntax(error.code, chunk.text, error.pos[0]);
      return [
        {
          ...brokenAt(chunk, error.pos[0], told.message, told.hint),
          position: positionOf(chunk, counter, told.offset),
        },
      ];
    }
    if (document.contents === null || (isScalar(document.contents) && document.contents.value === null)) return [];
    let value: unknown;
    try {
      value = document.toJS({ maxAliasCount: MOST_ALIASES });
      // Aliases share their anchors' objects; a copy of its own keeps one field from changing another.
      value = JSON.parse(boundedJson(value));
    } catch {
      const dangling = danglingAlias(document);
      if (dangling !== undefined) return [brokenAt(chunk, dangling, ...SYNTAX['BAD_ALIAS']!)];
      return [brokenAt(chunk, 0, 'aliases (*name) or nesting make the document too large', 'write the values out')];
    }
    return [
      {
        kind: 'Value',
        value,
        text: chunk.text,
        lines: linesOf(chunk),
        locate: (pointer, key = false) => {
          const offset = offsetOf(document, segments(pointer), key);
          return positionOf(chunk, counter, offset ?? firstContent(chunk.text));
        },
      },
    ];
  });
}

function boundedJson(value: unknown): string {
  const json = JSON.stringify(value);
  if (json.length > 4 * LARGEST_FILE) throw new RangeError('too large');
  return json;
}

function brokenAt(chunk: Chunk, offset: number, message: string, hint: string): ParsedDocument & { kind: 'Broken' } {
  const before = chunk.text.slice(0, offset).split('\n');
  return {
    kind: 'Broken',
    position: { line: chunk.linesBefore + before.length, column: before.at(-1)!.length + 1 },
    message,
    hint,
    text: chunk.text,
    lines: linesOf(chunk),
  };
}

const linesOf = ({ text, linesBefore }: Chunk): Lines => ({ before: linesBefore, count: text.split('\n').length });

function positionOf(chunk: Chunk, counter: LineCounter, offset: number): Position {
  const { line, col } = counter.linePos(offset);
  return { line: chunk.linesBefore + Math.max(1, line), column: Math.max(1, col) };
}

function firstContent(text: string): number {
  let offset = 0;
  for (const line of text.split('\n')) {
    if (!/^\s*(#.*)?$|^---\s*(#.*)?$/.test(line)) return offset + line.search(/\S/);
    offset += line.length + 1;
  }
  return 0;
}

function offsetOf(document: Document.Parsed, path: readonly string[], key: boolean): number | undefined {
  let node: unknown = document.contents;
  let offset: number | undefined;
  for (const [index, part] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === part);
      if (pair === undefined) break;
      const keyOffset = rangeOf(pair.key);
      if (index === path.length - 1 && key) return keyOffset ?? offset;
      offset = rangeOf(pair.value) ?? keyOffset ?? offset;
      // The value of a block mapping begins a line below; its key is what people look for.
      if (isCollection(pair.value) && !pair.value.flow) offset = keyOffset ?? offset;
      node = pair.value;
    } else if (isCollection(node)) {
      const item: unknown = node.items[Number(part)];
      if (item === undefined) break;
      offset = rangeOf(item) ?? offset;
      node = item;
    } else break;
  }
  return offset;
}

function rangeOf(node: unknown): number | undefined {
  return typeof node === 'object' && node !== null ? ((node as Node).range?.[0] ?? undefined) : undefined;
}

function danglingAlias(document: Document.Parsed): number | undefined {
  const anchors = new Set<string>();
  let offset: number | undefined;
  visit(document, {
    Node(_key, node) {
      if (isAlias(node)) {
        if (!anchors.has(node.source)) offset ??= node.range?.[0];
      } else if (node.anchor !== undefined) anchors.add(node.anchor);
    },
  });
  return offset;
}

/** The library tells where a quote is missing, which may be the end of the file; people look for where it began. */
function unclosedQuote(document: Document.Parsed, error: YAMLError): ReturnType<typeof explainSyntax> | undefined {
  if (error.code !== 'MISSING_CHAR' || !/^Missing closing .quote$/.test(error.message)) return undefined;
  let offset: number | undefined;
  visit(document, {
    Scalar(_key, node) {
      const quoted = node.type === 'QUOTE_DOUBLE' || node.type === 'QUOTE_SINGLE';
      if (quoted && node.range && node.range[0] <= error.pos[0] && node.range[2] >= error.pos[0])
        offset = node.range[0];
    },
  });
  if (offset === undefined) return undefined;
  return { message: 'the quote that opens here is not closed', hint: 'close it, or remove it', offset };
}

/** The library's messages quote the source; these do not. */
function explainSyntax(code: string, text: string, offset: number): { message: string; hint: string; offset: number } {
  const lineStart = text.lastIndexOf('\n', Math.max(0, offset - 1)) + 1;
  const tab = text.slice(lineStart).match(/^[ ]*\t/);
  if (code === 'TAB_AS_INDENT' || (tab !== null && code !== 'DUPLICATE_KEY')) {
    return {
      message: 'the line is indented with a tab',
      hint: 'indent with spaces',
      offset: tab === null ? offset : lineStart + tab[0].length - 1,
    };
  }
  const [message, hint] = SYNTAX[code] ?? [
    'this is no YAML',
    'look at the quotes, colons and indentation of this line',
  ];
  return { message, hint, offset };
}

const SYNTAX: Readonly<Record<string, readonly [string, string]>> = {
  DUPLICATE_KEY: [
    'the field is written twice in one object',
    'remove one; if two documents run together, put --- between them',
  ],
  BAD_INDENT: [
    'the indentation does not fit the lines above, or a bracket or quote in them is not closed',
    'indent fields of one object by the same number of spaces',
  ],
  BAD_ALIAS: ['the *alias names no &anchor', 'write the value out, or put it in quotes'],
  BAD_DQ_ESCAPE: ['the text in double quotes holds an unknown \\ escape', "put it in single quotes ('…')"],
  BAD_SCALAR_START: ['the value begins with a character that means something to YAML', 'put it in quotes'],
  MISSING_CHAR: ['a quote, bracket, comma, colon or - is missing', 'look at this line and at the end of the one above'],
  BLOCK_AS_IMPLICIT_KEY: [
    'a second field begins on the same line',
    'put each field on a line of its own, or the value in quotes',
  ],
  MULTILINE_IMPLICIT_KEY: ['a field name runs over several lines', 'a colon is missing, or a quote is not closed'],
  TAG_RESOLVE_FAILED: ['the !tag is not known', 'remove it'],
  NON_STRING_KEY: ['the name of the field is no text', 'put it in quotes'],
  RESOURCE_EXHAUSTION: ['the document is nested too deeply', 'write it plainly'],
};

// Searches the rows of COPY TO STDOUT in text and CSV (manual, "COPY", File Formats). PostgreSQL sends one row a CopyData
// message. Values are searched as they are, without escapes and quotes, and what is found is starred out in place: the
// row keeps its length and reads back as a row. Other formats and options are refused: an escape or a delimiter of the
// client's choice could stand inside what should be found.
import { type DetectorKind, maskDetected } from '../../../policy/detectors/detectors.ts';
import { MaskingError, type RowMasker } from './masking.ts';
import { bodyOf, listOf, type TreeNode } from './tree.ts';

export interface CopyFormat {
  kind: 'Text' | 'Csv';
  /** A byte. */
  delimiter: number;
}

const BACKSLASH = 0x5c;
const QUOTE = 0x22;
const NEWLINE = 0x0a;
/** None of these can be part of what detectors recognise. */
const DELIMITERS = new Set(['\t', ',', ';', '|']);
/** They change nothing but names, NULLs and which values are quoted. */
const HARMLESS = new Set(['header', 'null', 'force_quote']);
const CONTROLS: Readonly<Record<string, number>> = { b: 8, t: 9, n: 10, v: 11, f: 12, r: 13 };
const UNESCAPED = Uint8Array.from({ length: 256 }, (_, byte) => CONTROLS[String.fromCharCode(byte)] ?? byte);

/** undefined: its rows can not be searched. `copy`: the body of a CopyStmt. */
export function copyFormatOf(copy: TreeNode): CopyFormat | undefined {
  let kind: CopyFormat['kind'] = 'Text';
  let delimiter: string | undefined;
  for (const item of listOf(copy.options)) {
    const option = bodyOf(item, 'DefElem');
    const value = bodyOf(option?.arg, 'String')?.sval;
    if (option?.defname === 'format' && value === 'csv') kind = 'Csv';
    else if (option?.defname === 'format' && value === 'text') kind = 'Text';
    else if (option?.defname === 'delimiter' && typeof value === 'string' && DELIMITERS.has(value)) delimiter = value;
    else if ((option?.defname === 'quote' || option?.defname === 'escape') && value === '"') continue;
    else if (!HARMLESS.has(String(option?.defname))) return undefined;
  }
  return { kind, delimiter: (delimiter ?? (kind === 'Csv' ? ',' : '\t')).charCodeAt(0) };
}

/**
 * `searched`: which columns hold text, in their order; a row with another number of columns is searched whole. `mask`
 * takes CopyData messages and changes them in place.
 */
export function copyMasker(
  format: CopyFormat,
  searched: readonly boolean[] | undefined,
  detectors: readonly DetectorKind[],
): RowMasker {
  let count = 0;
  const fields: number[] = [];
  return {
    get count() {
      return count;
    },
    mask(message) {
      const end = message.length - 1;
      if (end < 5 || message[0] !== 0x64 || message[end] !== NEWLINE) {
        throw new MaskingError('a message of COPY is not one row');
      }
      fields.length = 0;
      for (let at = 5; ; ) {
        const stop = fieldEnd(message, at, end, format);
        fields.push(at, stop);
        if (stop >= end) break;
        at = stop + 1;
      }
      const described = searched?.length === fields.length / 2 ? searched : undefined;
      for (let i = 0; i < fields.length; i += 2) {
        if (described?.[i / 2] === false) continue;
        count += searchField(message, fields[i]!, fields[i + 1]!, format, detectors);
      }
      return message;
    },
  };
}

/** Where the value that begins at `at` ends: at a delimiter, or at the row's end. */
function fieldEnd(row: Buffer, at: number, end: number, { kind, delimiter }: CopyFormat): number {
  let quoted = false;
  for (let i = at; i < end; i++) {
    const byte = row[i]!;
    if (kind === 'Text' && byte === BACKSLASH) i += 1;
    else if (kind === 'Csv' && byte === QUOTE) quoted = !quoted;
    else if (byte === delimiter && !quoted) return i;
  }
  if (quoted) throw new MaskingError('a row of COPY ends within quotes');
  return end;
}

function searchField(
  row: Buffer,
  start: number,
  end: number,
  { kind }: CopyFormat,
  detectors: readonly DetectorKind[],
): number {
  const mark = kind === 'Text' ? BACKSLASH : QUOTE;
  const first = row.indexOf(mark, start);
  if (first === -1 || first >= end) return maskDetected(row, start, end, detectors);
  // The value itself, and where each of its bytes stands in the row.
  const value = Buffer.allocUnsafe(end - start);
  const places = new Uint32Array(end - start);
  const outer = kind === 'Csv' ? 1 : 0;
  let length = 0;
  for (let i = start + outer; i < end - outer; i++) {
    const escaped = row[i] === mark && i + 1 < end - outer;
    if (escaped) i += 1;
    value[length] = escaped && kind === 'Text' ? UNESCAPED[row[i]!]! : row[i]!;
    places[length] = i;
    length += 1;
  }
  const plain = Buffer.from(value.subarray(0, length));
  const found = maskDetected(value, 0, length, detectors);
  if (found === 0) return 0;
  for (let i = 0; i < length; i++) if (value[i] !== plain[i]) row[places[i]!] = value[i]!;
  return found;
}

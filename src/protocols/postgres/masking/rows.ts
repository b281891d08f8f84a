// Rewrites DataRow messages (manual, 55.7: Byte1('D') Int32 length Int16 columns, then Int32 length Byten each; -1 is NULL).
// A row in which nothing is masked is returned untouched and costs no allocation; the others are edited in place and at
// most shortened. Every length is checked before it is used: a row that does not add up ends the session.
import { type DetectorKind, maskDetected } from '../../../policy/detectors/detectors.ts';
import { MaskingError, type RowMasker } from './masking.ts';
import { type MaskKind, maskInPlace } from './masks.ts';

/** What happens to one column. */
export type ColumnTreatment =
  | { kind: 'Pass' }
  | { kind: 'Mask'; with: MaskKind }
  /** Contents are searched; what is found is starred out, length kept. */
  | { kind: 'Detect'; detectors: readonly DetectorKind[] };

const HEADER = 7;

export function rowMasker(columns: readonly ColumnTreatment[]): RowMasker {
  let count = 0;
  return {
    get count() {
      return count;
    },
    mask(row) {
      const length = row.length;
      if (length < HEADER || row[0] !== 0x44) throw new MaskingError('a row message is malformed');
      if (int32(row, 1) !== length - 1) throw new MaskingError('a row message has a wrong length');
      if (((row[5]! << 8) | row[6]!) !== columns.length) {
        throw new MaskingError(`a row has ${row.readUInt16BE(5)} columns, ${columns.length} were described`);
      }
      let read = HEADER;
      let write = HEADER;
      for (let i = 0; i < columns.length; i++) {
        if (read + 4 > length) throw new MaskingError('a row message ends inside a value');
        const size = int32(row, read);
        const end = read + 4 + Math.max(0, size);
        if (size < -1 || end > length) throw new MaskingError('a value of a row is longer than its message');
        const column = columns[i]!;
        if (column.kind === 'Mask' && size >= 0) {
          count += 1;
          write = maskValue(column.with, row, read, end, write);
        } else {
          if (column.kind === 'Detect' && size > 0) count += maskDetected(row, read + 4, end, column.detectors);
          if (write !== read) row.copyWithin(write, read, end);
          write += end - read;
        }
        read = end;
      }
      if (read !== length) throw new MaskingError('a row message has bytes after its last value');
      if (write === length) return row;
      writeInt32(row, 1, write - 1);
      return row.subarray(0, write);
    },
  };
}

/** Signed, big-endian. Callers have checked the bounds: this runs for every value. */
function int32(bytes: Buffer, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

function writeInt32(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Writes the masked value with its length at `write` (at or before `read`) and returns where it ends. */
function maskValue(kind: MaskKind, row: Buffer, read: number, end: number, write: number): number {
  if (kind === 'Null') {
    writeInt32(row, write, -1);
    return write + 4;
  }
  const size = maskInPlace(kind, row, read + 4, end) - (read + 4);
  if (write !== read) row.copyWithin(write + 4, read + 4, read + 4 + size);
  writeInt32(row, write, size);
  return write + 4 + size;
}

const TEXT_TYPES = new Set([
  18, // "char"
  19, // name
  25, // text
  1042, // bpchar
  1043, // varchar
  705, // unknown
]);
/** Text inside, but not any text: detected in, never masked character by character. */
const TEXT_LIKE = new Set([
  114, // json
  142, // xml
  3802, // jsonb
]);
const TEXT_ARRAYS = new Set([1009, 1015, 1014, 1003]);

export function isText(typeOid: number, textTypes: ReadonlySet<number>): boolean {
  return TEXT_TYPES.has(typeOid) || textTypes.has(typeOid);
}

/** Whether contents can be searched byte by byte: binary arrays have lengths among their text. */
export function isSearchable(typeOid: number, format: number, textTypes: ReadonlySet<number>): boolean {
  return isText(typeOid, textTypes) || TEXT_LIKE.has(typeOid) || (format === 0 && TEXT_ARRAYS.has(typeOid));
}

// Values of parameters and rows as text, for records and hashes. Best effort: a binary type that is not known is shown
// as hex. Never used for what reaches the client or the server.
const decoders = new Map<number, (bytes: Buffer) => string>([
  [16, (b) => (b.length === 1 ? (b[0] === 0 ? 'f' : 't') : hex(b))], // bool
  [20, (b) => (b.length === 8 ? b.readBigInt64BE().toString() : hex(b))], // int8
  [21, (b) => (b.length === 2 ? b.readInt16BE().toString() : hex(b))], // int2
  [23, (b) => (b.length === 4 ? b.readInt32BE().toString() : hex(b))], // int4
  [26, (b) => (b.length === 4 ? b.readUInt32BE().toString() : hex(b))], // oid
  [700, (b) => (b.length === 4 ? b.readFloatBE().toString() : hex(b))], // float4
  [701, (b) => (b.length === 8 ? b.readDoubleBE().toString() : hex(b))], // float8
  [2950, (b) => (b.length === 16 ? uuid(b) : hex(b))], // uuid
  [1114, timestamp], // timestamp
  [1184, timestamp], // timestamptz
  [
    1082,
    (b) => (b.length === 4 ? new Date((b.readInt32BE() + 10957) * 86_400_000).toISOString().slice(0, 10) : hex(b)),
  ], // date
  ...[19, 25, 114, 1042, 1043, 705, 142, 18].map((oid) => [oid, (b: Buffer) => b.toString('utf8')] as const), // name, text, json, char, varchar, unknown, xml
  [3802, (b) => (b[0] === 1 ? b.subarray(1).toString('utf8') : hex(b))], // jsonb
]);

/** `format`: 0 text, 1 binary. */
export function valueText(value: Buffer | null, format: number, typeOid: number): string | null {
  if (value === null) return null;
  if (format === 0) return value.toString('utf8');
  return (decoders.get(typeOid) ?? hex)(value);
}

export function hex(bytes: Buffer): string {
  return `\\x${bytes.toString('hex')}`;
}

function uuid(bytes: Buffer): string {
  const text = bytes.toString('hex');
  return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20)}`;
}

// Microseconds since 2000-01-01.
function timestamp(bytes: Buffer): string {
  if (bytes.length !== 8) return hex(bytes);
  const ms = Number(bytes.readBigInt64BE() / 1000n) + 946_684_800_000;
  return Math.abs(ms) > 8.64e15 ? hex(bytes) : new Date(ms).toISOString();
}

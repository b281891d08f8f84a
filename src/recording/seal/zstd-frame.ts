// Where a Zstandard frame ends, by its block headers alone (RFC 8878, section 3.1.1). The decompressor stops after the
// first frame and says nothing of what follows, so trailing bytes and skippable frames would pass it unseen.

const MAGIC = 0xfd2fb528;

export interface ZstdFrame {
  /** Bytes of the frame. */
  length: number;
  /** Decompressed size as the frame states it. */
  size: number;
}

/** The frame at the start of `bytes`; undefined unless it is one whole frame that states its size, without dictionary or checksum. */
export function zstdFrame(bytes: Buffer): ZstdFrame | undefined {
  if (bytes.length < 9 || bytes.readUInt32LE(0) !== MAGIC) return undefined;
  const descriptor = bytes[4]!;
  const single = (descriptor & 0x20) !== 0;
  // Unused and reserved bits, the checksum flag and the dictionary id.
  if ((descriptor & 0x1f) !== 0) return undefined;
  const code = descriptor >> 6;
  if (code === 0 && !single) return undefined;
  let at = single ? 5 : 6;
  const sizeBytes = code === 0 ? 1 : code === 1 ? 2 : code === 2 ? 4 : 8;
  if (bytes.length < at + sizeBytes + 3) return undefined;
  let size: number;
  if (sizeBytes === 1) size = bytes[at]!;
  else if (sizeBytes === 2) size = bytes.readUInt16LE(at) + 256;
  else if (sizeBytes === 4) size = bytes.readUInt32LE(at);
  else size = Number(bytes.readBigUInt64LE(at));
  at += sizeBytes;
  for (;;) {
    if (at + 3 > bytes.length) return undefined;
    const block = bytes.readUIntLE(at, 3);
    const type = (block >> 1) & 3;
    if (type === 3) return undefined;
    at += 3 + (type === 1 ? 1 : block >> 3);
    if (at > bytes.length) return undefined;
    if ((block & 1) === 1) return { length: at, size };
  }
}

// The record log of a process. Appends of one event-loop turn become one batch and one write(2); callbacks follow in
// order, after the write or (durability Disk) after a group sync. Results, for which nobody waits, ride along with the
// next batch or are written a few milliseconds later. Sealing happens behind.
// Guarantees: a callback without error means the stream's records up to there are written whole; a failed batch leaves
// nothing behind and fails every callback of it; while the store refuses writes nothing is queued, `writable` is false,
// and the log tries again by itself and then records how much each session lost. Memory does not grow with records:
// of what is written only the place is kept. Does not: throw from a recorder.
import type { RecordKind } from '../envelope.ts';
import { CONTROL_STREAM, HEADS_FILE, isStreamName, LIVE_FOLDER, MARK_FILE, segmentName } from '../layout.ts';
import { type ConstantMembers, RecordingError } from '../recorder.ts';
import { recover } from '../recover.ts';
import { pruneDays } from '../retention.ts';
import { syncFolder } from '../seal/heads.ts';
import { createSealer } from '../seal/sealer.ts';
import { OPEN_BYTES } from './batch.ts';
import { BatchBuffer } from './batch-buffer.ts';
import { createGroupSync } from './group-sync.ts';
import { type Line, recordLine, timestamps } from './line.ts';
import { type LiveFile, openLiveWriter } from './live-writer.ts';
import { lockFolder } from './lock.ts';
import { createMarkWriter } from './mark-writer.ts';
import type { ControlAct, Durability, ProcessRecordLog, RecordLogOptions } from './process-log.ts';
import { createSealQueue } from './seal-queue.ts';
import { newStream, type Stream } from './stream.ts';

type Written = (error: RecordingError | undefined) => void;

/** Past this a batch is written within the turn. */
const BATCH_BYTES = 2 * 1024 * 1024;
/** Results wait this long, or for this much, for a batch that somebody waits for. */
const RIDE = { ms: 5, bytes: 64 * 1024 };
const PROBE_MS = { first: 100, last: 5000 };
const LIVE_FILES_KEPT = 3;
/** How often a batch looks whether its file is still where readers would find it. */
const LOOK_MS = 50;

/** Recovers what a dead process left, then opens for writing. Rejects with RecordFolderInUse or Node's error. */
export async function openRecordLog(options: RecordLogOptions): Promise<ProcessRecordLog> {
  const { files, clock, signer } = options;
  const folder = options.folder.replace(/\/+$/, '') || '/';
  files.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const unlock = lockFolder(files, folder);
  try {
    return await open();
  } catch (error) {
    unlock();
    throw error;
  }

  async function open(): Promise<ProcessRecordLog> {
    const segmentBytes = options.segmentBytes ?? 1024 * 1024;
    const sealAfterMs = options.sealAfterMs ?? 600_000;
    const headsPath = options.headsPath ?? `${folder}/${HEADS_FILE}`;
    const now = clock.now;
    const trusted = options.trusted ?? [];
    const recovery = await recover({ files, folder, headsPath, signer, now, segmentBytes, trusted });
    const { heads } = recovery;

    const timestamp = timestamps();
    const streams = new Map<string, Stream>();
    const losers = new Set<Stream>();
    const liveFiles = new Map<number, LiveFile>();
    let disks = 0;
    const writer = openLiveWriter({
      files,
      folder,
      first: recovery.nextFile,
      prev: heads.position.prev,
      fileBytes: options.fileBytes ?? 64 * 1024 * 1024,
      synced: () => disks > 0,
    });
    const sealer = createSealer({
      files,
      folder,
      signer,
      heads,
      now,
      segmentBytes,
      onSealed(extent) {
        const file = liveFiles.get(extent.file);
        if (file !== undefined) file.unsealed -= extent.length;
      },
    });

    const mark = createMarkWriter({ files, folder, clock, signer, writer, needed: () => liveFiles.keys() });

    const batch = new BatchBuffer();
    let waiting: { stream: Stream; callback: Written; disk?: boolean }[] = [];
    let scheduled = false;
    let riding = false;
    let stopRide = (): void => {};
    let oldestPending = 0;
    let writable = true;
    let refusal = new RecordingError('IoError', 'records can not be written');
    let probing = false;
    let probeDelay = PROBE_MS.first;
    let stopProbe: (() => void) | undefined;
    let closing: Promise<void> | undefined;
    const counts = { records: 0, batches: 0, bytes: 0, segments: 0, lost: 0 };

    function schedule(): void {
      if (scheduled) return;
      scheduled = true;
      setImmediate(turn);
    }

    /** Writes what nobody waits for, if no batch takes it along before. */
    function ride(): void {
      if (riding || scheduled) return;
      riding = true;
      stopRide = clock.after(RIDE.ms, () => {
        riding = false;
        writeBatch();
      });
    }

    function add(stream: Stream, kind: RecordKind, body: object, channel?: number, constant?: ConstantMembers): void {
      let line: Line;
      try {
        line = recordLine(stream.prefix, stream.nextSeq, timestamp(clock.now()), kind, body, channel, constant);
      } catch (error) {
        lose(stream, new RecordingError('IoError', `the ${kind} event can not be encoded`, { cause: error }));
        return;
      }
      if (batch.streams.length === 0) oldestPending = clock.monotonic();
      batch.add(stream, line);
      stream.nextSeq += 1;
      stream.pending += 1;
      if (kind !== 'result' || batch.end > RIDE.bytes) schedule();
      else ride();
      if (batch.end > BATCH_BYTES) writeBatch();
    }

    function lose(stream: Stream, error: RecordingError, count = 1): void {
      stream.failure ??= error;
      stream.lost += count;
      counts.lost += count;
      losers.add(stream);
      if (writable && stopProbe === undefined) armProbe();
    }

    let lookedAt = Number.NEGATIVE_INFINITY;

    /** Writing to a file that somebody removed succeeds and records nothing. Throws Node's error when it is gone. */
    function look(at: number): void {
      const { current } = writer;
      if (current === undefined || at - lookedAt < LOOK_MS) return;
      lookedAt = at;
      try {
        files.statSync(current.path);
      } catch (error) {
        writer.giveUp();
        throw error;
      }
    }

    /** Writes what is gathered. True if it is written or there was nothing. */
    function writeBatch(): boolean {
      if (batch.streams.length === 0) return true;
      const started = clock.monotonic();
      let place: { file: LiveFile; offset: number };
      try {
        look(started);
        place = writer.write(batch.bytes, batch.end);
      } catch (error) {
        dropBatch(error);
        return false;
      }
      liveFiles.set(place.file.number, place.file);
      let from = OPEN_BYTES;
      const shift = place.offset - OPEN_BYTES;
      for (let index = 0; index < batch.streams.length; index += 1) {
        const stream = batch.streams[index]!;
        const to = batch.ends[index]!;
        place_(stream, place.file.number, from + shift, to - from, started);
        from = to;
      }
      place.file.unsealed += batch.end - OPEN_BYTES;
      counts.records += batch.streams.length;
      counts.batches += 1;
      counts.bytes += batch.end - OPEN_BYTES;
      options.onBatch?.({
        records: batch.streams.length,
        bytes: batch.end - OPEN_BYTES,
        milliseconds: clock.monotonic() - started,
      });
      batch.clear();
      mark.due();
      return true;
    }

    function place_(stream: Stream, file: number, offset: number, length: number, at: number): void {
      const seq = stream.nextSeq - stream.pending;
      stream.pending -= 1;
      if (stream.extents.length === 0) stream.since = at;
      const last = stream.extents.at(-1);
      if (
        last !== undefined &&
        last.file === file &&
        last.offset + last.length === offset &&
        last.length < segmentBytes
      ) {
        last.length += length;
        last.count += 1;
      } else stream.extents.push({ file, offset, length, seq, count: 1 });
      stream.unsealedBytes += length;
      if (!stream.queued && (stream.unsealedBytes >= segmentBytes || (stream.closed && stream.pending === 0)))
        sealing.add(stream);
    }

    function dropBatch(cause: unknown): void {
      const code = (cause as NodeJS.ErrnoException).code;
      const full = code === 'ENOSPC' || code === 'EDQUOT';
      const reason = cause instanceof Error ? cause.message : String(cause);
      const message = full ? `no space left for records in ${folder}` : `records can not be written: ${reason}`;
      const error = new RecordingError(full ? 'NoSpace' : 'IoError', message, { cause });
      const was = writable;
      writable = false;
      refusal = error;
      for (const stream of batch.streams) {
        stream.nextSeq -= 1;
        stream.pending -= 1;
        if (stream.endSeq >= stream.nextSeq) stream.endSeq = -1;
        // What a probe wrote is not an event of the session.
        if (!probing) lose(stream, error);
      }
      batch.clear();
      if (was) options.onHealth?.({ kind: 'Unwritable', code: error.code, message });
      if (!probing) armProbe();
    }

    function armProbe(): void {
      if (stopProbe !== undefined || closing !== undefined) return;
      stopProbe = clock.after(probeDelay, () => {
        stopProbe = undefined;
        probe();
      });
    }

    /** Tries the store with what is to be told anyway: which sessions lost how many events. */
    function probe(): void {
      if (!writeBatch()) return;
      probing = true;
      const told = [...losers];
      const lost = told.reduce((sum, stream) => sum + stream.lost, 0);
      if (!writable)
        add(control, 'control', { act: 'RecordsWritable', actor: { username: 'sallyport' }, details: { lost } });
      for (const stream of told) {
        if (stream.lost > 0 && stream.nextSeq > 0) {
          add(stream, 'notice', {
            notice: 'RecordsLost',
            lost: stream.lost,
            reason: stream.failure?.message ?? 'the store refused them',
          });
        }
        if (stream.closed && stream.endSeq < 0 && stream.nextSeq > 0) addEnd(stream, LOST_END);
      }
      const worked = writeBatch();
      probing = false;
      if (!worked) {
        probeDelay = Math.min(PROBE_MS.last, probeDelay * 2);
        armProbe();
        return;
      }
      for (const stream of told) {
        stream.lost = 0;
        losers.delete(stream);
        if (stream.closed) finish(stream);
      }
      probeDelay = PROBE_MS.first;
      if (!writable) {
        writable = true;
        options.onHealth?.({ kind: 'Writable' });
      }
    }

    const disk = createGroupSync<Stream>({
      writer,
      onFailure(failure, told) {
        refusal = failure;
        if (writable) options.onHealth?.({ kind: 'Unwritable', code: 'IoError', message: failure.message });
        writable = false;
        for (const stream of told) lose(stream, failure, 0);
        armProbe();
      },
      tell({ stream, callback, error }, failure) {
        if (failure !== undefined) stream.failure = undefined;
        call(callback, error ?? failure);
      },
    });

    function turn(): void {
      scheduled = false;
      writeBatch();
      if (waiting.length === 0) return;
      const now = waiting;
      waiting = [];
      for (const { stream, callback, disk: synced } of now) {
        if (stream.durability === 'Disk' || synced === true) disk.wait({ stream, callback, error: stream.failure });
        else call(callback, stream.failure);
      }
      for (const { stream } of now) stream.failure = undefined;
      disk.sync();
    }

    function call(callback: Written, error: RecordingError | undefined): void {
      try {
        callback(error);
      } catch (thrown) {
        // One session's mistake must not cost the others their answer; it still is an uncaught exception.
        setImmediate(() => {
          throw thrown;
        });
      }
    }

    function append(
      stream: Stream,
      kind: RecordKind,
      body: object,
      channel?: number,
      constant?: ConstantMembers,
    ): void {
      if (stream.closed) stream.failure ??= new RecordingError('Closed', `the record of ${stream.id} is closed`);
      else if (!writable) lose(stream, refusal);
      else if (kind === 'end') addEnd(stream, body, channel);
      else add(stream, kind, body, channel, constant);
    }

    function addEnd(stream: Stream, body: object, channel?: number): void {
      const seq = stream.nextSeq;
      add(stream, 'end', body, channel);
      if (stream.nextSeq > seq && stream.endSeq < 0) stream.endSeq = seq;
    }

    function closeStream(stream: Stream): void {
      if (stream.closed) return;
      if (stream.endSeq < 0 && writable && stream.nextSeq > 0) addEnd(stream, UNSAID_END);
      stream.closed = true;
      if (stream.durability === 'Disk') disks -= 1;
      if (!losers.has(stream)) finish(stream);
    }

    /** Once a closed stream's last record is written. */
    function finish(stream: Stream): void {
      if (stream.pending > 0) return;
      if (stream.extents.length > 0 || stream.headless !== undefined) sealing.add(stream);
      else streams.delete(stream.id);
    }

    // --- sealing ---
    const sealing = createSealQueue<Stream>({
      sealOnce,
      onTrouble: (message) => options.onHealth?.({ kind: 'SealFailing', message }),
      onRecovery: () => options.onHealth?.({ kind: 'SealWorking' }),
      onEmpty: dropLiveFiles,
    });

    /** Seals one segment; true if the stream should go on at once. */
    async function sealOnce(stream: Stream): Promise<boolean> {
      // Its last segment must say so: wait for `close`.
      if (stream.endSeq >= 0 && !stream.closed) return false;
      const final = stream.closed && stream.pending === 0 && stream !== control;
      const { done, bytes } = await sealer.seal(stream, { final, recovered: false });
      if (bytes > 0) {
        counts.segments += 1;
        options.onSegment?.({ stream: stream.id, bytes });
      }
      stream.since = clock.monotonic();
      if (final && done) {
        streams.delete(stream.id);
        return false;
      }
      return stream.extents.length > 0 && (stream.closed || stream.unsealedBytes >= segmentBytes);
    }

    function dropLiveFiles(): void {
      for (const [number, file] of liveFiles) {
        if (file === writer.current || file.unsealed > 0) continue;
        try {
          files.unlinkSync(file.path);
          liveFiles.delete(number);
          mark.due();
        } catch {
          // Everything in it is sealed; recovery deletes it.
          return;
        }
      }
    }

    function sealOld(all: boolean): void {
      const late = clock.monotonic() - sealAfterMs;
      const oldestKept = (writer.current?.number ?? 0) - LIVE_FILES_KEPT;
      for (const stream of streams.values()) {
        const first = stream.extents[0];
        if (first === undefined && stream.headless === undefined) continue;
        if (all || stream.closed || stream.since <= late || (first !== undefined && first.file < oldestKept))
          sealing.add(stream);
      }
    }

    let stopTick = (): void => {};
    function tick(): void {
      stopTick = clock.after(Math.min(5000, sealAfterMs), () => {
        sealOld(false);
        tick();
      });
    }

    const control: Stream = { ...newStream(CONTROL_STREAM, options.durability ?? 'Write'), ...recovery.control };
    if (control.durability === 'Disk') disks += 1;
    streams.set(CONTROL_STREAM, control);

    function written(stream: Stream, synced = false): Promise<void> {
      return new Promise((resolve, reject) => {
        const callback: Written = (error) => (error === undefined ? resolve() : reject(error));
        waiting.push({ stream, callback, disk: synced });
        schedule();
      });
    }

    async function recordAct(act: ControlAct, { durability }: { durability?: Durability } = {}): Promise<void> {
      const synced = durability === 'Disk';
      // While it waits a live file that is left behind is synced too: the act may lie in it.
      if (synced) disks += 1;
      try {
        append(control, 'control', act);
        await written(control, synced);
      } finally {
        if (synced) disks -= 1;
      }
    }

    async function shut(): Promise<void> {
      for (const stream of streams.values()) if (stream !== control) closeStream(stream);
      append(control, 'control', { act: 'RecordsClosed', actor: { username: 'sallyport' } });
      await new Promise<void>((resolve) => {
        waiting.push({ stream: control, callback: () => resolve() });
        schedule();
      });
      if (!writable || losers.size > 0) probe();
      control.closed = true;
      stopRide();
      stopProbe?.();
      stopTick();
      for (let attempt = 0; attempt < 2; attempt += 1) {
        sealOld(true);
        await sealing.emptied;
      }
      writer.close();
      const left = [...streams.values()].filter((stream) => stream.extents.length > 0 || stream.headless !== undefined);
      try {
        if (left.length === 0) {
          await heads.append({ kind: 'Closed' });
          for (const file of liveFiles.values()) files.unlinkSync(file.path);
          if (files.existsSync(`${folder}/${MARK_FILE}`)) files.unlinkSync(`${folder}/${MARK_FILE}`);
          syncFolder(files, `${folder}/${LIVE_FOLDER}`);
        }
      } finally {
        heads.close();
        unlock();
      }
      if (left.length > 0 || losers.size > 0) {
        throw new RecordingError('IoError', `${left.length} records could not be sealed; the next start does it`);
      }
    }

    const { sessions, damage } = recovery;
    await recordAct({
      act: 'RecordsOpened',
      actor: { username: 'sallyport' },
      details: { keyId: signer.keyId, recovered: sessions.slice(0, 1000), damage: damage.slice(0, 100) },
    });
    await heads.append({ kind: 'Opened', live: recovery.nextFile });
    tick();

    return {
      recovered: { sessions, damage },
      session(id, session = {}) {
        if (!isStreamName(id) || id === CONTROL_STREAM) throw new TypeError(`${JSON.stringify(id)} names no stream`);
        const today = `${folder}/${segmentName(id, 0, timestamp(clock.now()))}`;
        if (streams.has(id) || files.existsSync(today)) throw new TypeError(`the stream ${id} is in use`);
        const stream = newStream(id, session.durability ?? options.durability ?? 'Write');
        streams.set(id, stream);
        if (stream.durability === 'Disk') disks += 1;
        if (closing !== undefined) stream.closed = true;
        return {
          append: (kind, body, channel, constant) => append(stream, kind, body, channel, constant),
          whenWritten(callback) {
            waiting.push({ stream, callback });
            schedule();
          },
          get writable() {
            return writable && closing === undefined;
          },
          close: () => closeStream(stream),
        };
      },
      control: recordAct,
      async sealNow() {
        await new Promise<void>((resolve) => {
          waiting.push({ stream: control, callback: () => resolve() });
          schedule();
        });
        sealOld(true);
        await sealing.emptied;
      },
      async prune(olderThanMs, actor) {
        const olderThan = new Date(Math.min(olderThanMs, clock.now() - 86_400_000)).toISOString().slice(0, 10);
        await recordAct({ act: 'PruneRecords', actor, details: { before: olderThan } });
        return pruneDays({ files, folder, headsPath, heads, keys: recovery.keys }, olderThan, actor.username);
      },
      stats: () => ({
        ...counts,
        writable,
        lagMs: batch.streams.length === 0 ? 0 : clock.monotonic() - oldestPending,
        openStreams: streams.size - 1,
        unsealedBytes: [...liveFiles.values()].reduce((sum, file) => sum + file.unsealed, 0),
        liveFiles: liveFiles.size,
      }),
      close: () => {
        mark.stop();
        return (closing ??= shut());
      },
    };
  }
}

const UNSAID_END = { reason: 'Closed', message: 'The session was closed without saying why.' };
const LOST_END = { reason: 'Closed', message: 'How the session ended could not be recorded.' };

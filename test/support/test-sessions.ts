// What the gateways in memory have in common: sessions whose records go into an array, whose holds and cuts are worked
// by hand, and a listener that hands sockets to a protocol. Nothing here is the real gateway.
import net from 'node:net';
import type { Command } from '../../src/policy/command.ts';
import { decide } from '../../src/policy/decide.ts';
import type { Decision } from '../../src/policy/decision.ts';
import type { SessionPolicy } from '../../src/policy/session-policy.ts';
import type { Credential } from '../../src/protocols/credential.ts';
import type {
  AuthenticatedSession,
  Cut,
  Gate,
  HoldHandle,
  HoldOutcome,
  HoldRequest,
  Protocol,
  SessionContext,
} from '../../src/protocols/protocol.ts';
import { RecordingError, type SessionRecorder } from '../../src/recording/recorder.ts';

export interface TestRecord {
  session: string;
  kind: string;
  channel: number | undefined;
  body: Record<string, unknown>;
  written: boolean;
}

export interface TestHold {
  request: HoldRequest;
  handle: HoldHandle;
  resolve(outcome: HoldOutcome): void;
  withdrawn: boolean;
}

export interface TestSession {
  id: string;
  cut(cut: Cut): void;
  notice(notice: { message: string; hint?: string }): void;
  ended: { reason: string; message: string | undefined; survivors: readonly string[] | undefined } | undefined;
  endedPromise: Promise<void>;
}

export interface TestSessions {
  records: TestRecord[];
  holds: TestHold[];
  sessions: TestSession[];
  logs: string[];
  /** Changed at will; the next command sees it. */
  policy: SessionPolicy;
  /** Judges instead of the policy, where it answers. */
  judge: ((command: Command) => Decision | undefined) | undefined;
  gate: Gate | undefined;
  /** Answers whenWritten with an error while set. */
  recordsFail: boolean;
  /** Keeps whenWritten back until released. */
  holdRecords: boolean;
  releaseRecords(): void;
  nextHold(): Promise<TestHold>;
  /** A session that got in. */
  granted(id: string): AuthenticatedSession;
}

export interface TestAccess {
  grant: string;
  account: string;
  credential: Credential;
}

export function testSessions(policy: SessionPolicy, access: TestAccess): TestSessions {
  const kept: (() => void)[] = [];
  const holdWaiters: ((hold: TestHold) => void)[] = [];
  let denials = 0;
  const state: TestSessions = {
    records: [],
    holds: [],
    sessions: [],
    logs: [],
    policy,
    judge: undefined,
    gate: undefined,
    recordsFail: false,
    holdRecords: false,
    releaseRecords() {
      state.holdRecords = false;
      for (const callback of kept.splice(0)) callback();
    },
    nextHold: () => new Promise((resolve) => holdWaiters.push(resolve)),
    granted(id) {
      let onCut: ((cut: Cut) => void) | undefined;
      let onNotice: ((notice: { message: string; hint?: string }) => void) | undefined;
      const { promise, resolve } = Promise.withResolvers<void>();
      const own: TestSession = {
        id,
        cut: (cut) => onCut?.(cut),
        notice: (notice) => onNotice?.(notice),
        ended: undefined,
        endedPromise: promise,
      };
      state.sessions.push(own);
      return {
        principal: { username: 'ana@corp.example' },
        grant: { name: access.grant, uid: 'grant-uid', policy: 'test/rules', expiresAtMs: Date.now() + 3_600_000 },
        account: access.account,
        record: recorderOf(id),
        policy: () => state.policy,
        gate: () => state.gate,
        decide: (command) => state.judge?.(command) ?? decide(state.policy, command),
        denialId: () => `d-${(denials += 1).toString(16).padStart(4, '0')}`,
        hold: heldOf,
        credential: async () => access.credential,
        dial: ({ host, port }, signal) =>
          new Promise((done, reject) => {
            const socket = net.connect({ host, port, signal });
            socket.once('connect', () => done(socket));
            socket.once('error', reject);
          }),
        onCut(listener) {
          onCut = listener;
        },
        onNotice(listener) {
          onNotice = listener;
        },
        observe: { decision: () => undefined, masked: () => undefined, latency: () => undefined },
        ended(reason, message, survivors) {
          own.ended ??= { reason, message, survivors };
          resolve();
        },
      };
    },
  };

  const recorderOf = (session: string): SessionRecorder => {
    let pending: TestRecord[] = [];
    return {
      append(kind, body, channel, constant) {
        const copy = structuredClone({ ...body, ...constant?.members }) as Record<string, unknown>;
        const one: TestRecord = { session, kind, channel, body: copy, written: false };
        state.records.push(one);
        pending.push(one);
      },
      whenWritten(callback) {
        const mine = pending;
        pending = [];
        const write = (): void => {
          if (state.recordsFail) return callback(new RecordingError('NoSpace', 'no space'));
          for (const one of mine) one.written = true;
          callback(undefined);
        };
        if (state.holdRecords) kept.push(write);
        else setImmediate(write);
      },
      get writable() {
        return !state.recordsFail;
      },
      close: () => undefined,
    };
  };

  const heldOf = (request: HoldRequest): HoldHandle => {
    const outcome = Promise.withResolvers<HoldOutcome>();
    const hold: TestHold = {
      request,
      withdrawn: false,
      resolve: outcome.resolve,
      handle: {
        name: `h-${state.holds.length + 1}`,
        untilMs: Date.now() + 60_000,
        preapproved: false,
        outcome: outcome.promise,
        withdraw() {
          hold.withdrawn = true;
          outcome.resolve({ kind: 'Withdrawn' });
        },
      },
    };
    state.holds.push(hold);
    holdWaiters.shift()?.(hold);
    return hold.handle;
  };

  return state;
}

export interface TestListener {
  port: number;
  close(): Promise<void>;
}

/** Listens on loopback and hands each socket to the protocol; what it rejects with goes to the logs. */
export async function listenFor(
  protocol: Protocol,
  contextOf: (socket: net.Socket, id: string) => SessionContext,
  logs: string[],
): Promise<TestListener> {
  const sockets = new Set<net.Socket>();
  let count = 0;
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.setNoDelay(true);
    protocol.accept(socket, contextOf(socket, `s-${(count += 1)}`)).catch((error: unknown) => {
      logs.push(`REJECTED ${String(error)}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

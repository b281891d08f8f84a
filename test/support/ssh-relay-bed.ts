// The relay between a raw client and a raw target, both in memory and worked message by message. The relay and its
// rules are the real ones; the session about them is not.
import type { Command } from '../../src/policy/command.ts';
import { decide } from '../../src/policy/decide.ts';
import type { SessionPolicy } from '../../src/policy/session-policy.ts';
import type { AuthenticatedSession, HoldOutcome } from '../../src/protocols/protocol.ts';
import { type Relay, runRelay } from '../../src/protocols/ssh/channels/relay.ts';
import { ALL_RIGHTS, type LoginRights } from '../../src/protocols/ssh/keys/certificate.ts';
import { ed25519Signer } from '../../src/protocols/ssh/keys/signer.ts';
import type { Transport } from '../../src/protocols/ssh/transport/transport.ts';
import { writeData } from '../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../src/protocols/ssh/wire/message-numbers.ts';
import { authGateway, type FakeTransport, transportPair } from './ssh-auth.ts';
import { sshPolicy } from './ssh-rules.ts';

/** The gateway's own towards the client. */
export const relayHostKey = ed25519Signer(Buffer.alloc(32, 3));

export interface RelayBed {
  relay: Relay;
  /** What each end got, in order. */
  clientGot: Buffer[];
  targetGot: Buffer[];
  /** The relay's end towards the client. */
  relayEnd: FakeTransport;
  targetEnd: FakeTransport;
  /** The relay has let go of the target. */
  targetClosed: boolean;
  /** Times the target was asked for. */
  dials: number;
  records: { kind: string; channel: number | undefined; body: Record<string, unknown> }[];
  /** Changed at will; the next command sees it. */
  policy: SessionPolicy;
  /** Reasons of the session's end. */
  ended: string[];
  withdrawn: number;
  release(outcome: HoldOutcome): void;
  fromClient(...payloads: Buffer[]): Promise<void>;
  fromTarget(...payloads: Buffer[]): Promise<void>;
}

export interface RelayBedOptions {
  /** Everything is allowed without one. */
  policy?: SessionPolicy;
  rights?: LoginRights;
}

/** Messages have arrived and been answered. */
export const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

export async function until(condition: () => boolean): Promise<void> {
  for (let wait = 0; wait < 300 && !condition(); wait += 1) await new Promise((resolve) => setTimeout(resolve, 20));
}

export const numbers = (payloads: readonly Buffer[]): number[] => payloads.map((payload) => payload[0]!);

export const confirmation = (recipient: number, sender = 9, window = 100_000): Buffer =>
  writeData(
    { byte: MSG.CHANNEL_OPEN_CONFIRMATION },
    { uint32: recipient },
    { uint32: sender },
    { uint32: window },
    { uint32: 32_768 },
  );

export async function relayBed(options: RelayBedOptions = {}): Promise<RelayBed> {
  const ofClient = transportPair();
  const ofTarget = transportPair();
  const hold = Promise.withResolvers<HoldOutcome>();
  const { context } = authGateway({ grants: () => undefined });
  const { connection } = context;
  const bed: RelayBed = {
    relay: undefined as unknown as Relay,
    clientGot: [],
    targetGot: [],
    relayEnd: ofClient.server,
    targetEnd: ofTarget.server,
    targetClosed: false,
    dials: 0,
    records: [],
    policy: options.policy ?? sshPolicy({ all: { action: 'Allow' } }),
    ended: [],
    withdrawn: 0,
    release: (outcome) => hold.resolve(outcome),
    async fromClient(...payloads) {
      for (const payload of payloads) ofClient.client.send(payload);
      await settle();
    },
    async fromTarget(...payloads) {
      for (const payload of payloads) ofTarget.server.send(payload);
      await settle();
    },
  };
  ofClient.client.onMessage = (payload) => void bed.clientGot.push(payload);
  ofTarget.server.onMessage = (payload) => void bed.targetGot.push(payload);
  ofTarget.server.onClose = () => {
    bed.targetClosed = true;
  };
  bed.relay = runRelay({
    context: {
      ...context,
      connection: {
        ...connection,
        spec: { ...connection.spec, ssh: { host: 'web1.internal', port: 2222, hostKeys: [] } },
      },
    },
    session: sessionOf(bed, hold),
    services: { prefix: 'sallyport', filterFor: () => undefined, transferOf: () => undefined },
    user: 'deploy',
    rights: options.rights ?? ALL_RIGHTS,
    client: ofClient.server,
    handOver: handOverOf(ofClient.server),
    hostKeys: [relayHostKey],
    connect: async () => {
      bed.dials += 1;
      return { transport: ofTarget.client, handOver: handOverOf(ofTarget.client) };
    },
  });
  await settle();
  return bed;
}

function sessionOf(bed: RelayBed, hold: PromiseWithResolvers<HoldOutcome>): AuthenticatedSession {
  let denials = 0;
  return {
    principal: { username: 'ana' },
    grant: { name: 'g', uid: 'u', policy: 'p', expiresAtMs: 0 },
    account: 'admin',
    record: {
      append: (kind: string, body: object, channel?: number) =>
        void bed.records.push({ kind, channel, body: structuredClone(body) as Record<string, unknown> }),
      whenWritten: (callback: (error: undefined) => void) => void setImmediate(() => callback(undefined)),
      writable: true,
      close: () => undefined,
    },
    gate: () => undefined,
    decide: (command: Command) => decide(bed.policy, command),
    denialId: () => `d-${(denials += 1)}`,
    hold: () => ({
      name: 'h-1',
      untilMs: Date.now() + 1000,
      preapproved: false,
      outcome: hold.promise,
      withdraw: () => {
        bed.withdrawn += 1;
        hold.resolve({ kind: 'Withdrawn' });
      },
    }),
    observe: { decision: () => undefined, masked: () => undefined, latency: () => undefined },
    ended: (reason: string) => void bed.ended.push(reason),
  } as unknown as AuthenticatedSession;
}

function handOverOf(transport: Transport) {
  return (handlers: Pick<Transport, 'onMessage' | 'onClose'>): void => {
    transport.onMessage = handlers.onMessage;
    transport.onClose = handlers.onClose;
  };
}

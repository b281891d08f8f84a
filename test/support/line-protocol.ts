// A protocol small enough to read at a glance, to prove the seam between gateway and protocols. A client sends
// `TICKET t [user]`, `ONCE t [user]`, `TOKEN t [user]`, `KEY k [user]` (believed to be proven) or `CERTIFICATE json [user]`, `OFFER k` before
// that as often as it likes, then lines: `GET key`, `PUT key value`, `DROP key`, `WAIT` (runs until cut). `CANCEL` withdraws a hold.
// Answers: the target's line, or `DENIED code message`, `HELD name`, `NOTICE message`, `CUT code message`, `ERROR message`.
import { createHash } from 'node:crypto';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import type { Action, Command } from '../../src/policy/command.ts';
import type { Decision } from '../../src/policy/decision.ts';
import { globMatches } from '../../src/policy/glob.ts';
import type { PreparedMatcher, ProtocolRules } from '../../src/policy/session-policy.ts';
import type {
  AuthenticatedSession,
  HoldHandle,
  Proof,
  Protocol,
  SessionContext,
  UserCertificate,
} from '../../src/protocols/protocol.ts';
import type { CommandBody, ResultBody } from '../../src/recording/envelope.ts';

const ACTIONS: Readonly<Record<string, Action>> = { GET: 'Read', PUT: 'Write', DROP: 'Define', WAIT: 'Execute' };
const LONGEST_LINE = 4096;

export function lineCommand(line: string): Command {
  const [verb = '', key] = line.split(' ');
  const action = ACTIONS[verb];
  const effects = action === undefined ? [] : [{ action, object: key === undefined ? [] : key.split('/') }];
  return { protocol: 'lines', verb, effects, text: line, facts: {} };
}

/** A rule's `lines` member: fields are and-ed, values or-ed. */
export interface LineMatcher {
  actions?: Action[];
  keys?: string[];
}

export const lineRules: ProtocolRules = {
  member: 'lines',
  presets: {},
  lint: () => [],
  prepare(matcher): PreparedMatcher {
    const { actions, keys } = matcher as LineMatcher;
    const fits = ({ effects }: Command, index: number): boolean => {
      const { action, object } = effects[index]!;
      if (actions !== undefined && !actions.includes(action)) return false;
      return keys === undefined || keys.some((pattern) => globMatches(pattern, object.join('/')));
    };
    return {
      restricts: (command) => command.effects.some((_, index) => fits(command, index)),
      permits: fits,
    };
  },
};

/** Calls back with each line; too long a line, or the end, ends it. */
function lines(stream: Duplex, onLine: (line: string) => void, onEnd: (reason?: 'TooLong') => void): void {
  let rest = '';
  let ended = false;
  const end = (reason?: 'TooLong'): void => {
    if (!ended) onEnd(reason);
    ended = true;
  };
  stream.on('data', (chunk: Buffer) => {
    if (ended) return;
    const parts = (rest + chunk.toString('latin1')).split('\n');
    rest = parts.pop()!;
    for (const part of parts) onLine(part);
    if (rest.length > LONGEST_LINE) end('TooLong');
  });
  stream.on('close', () => end());
  stream.on('error', () => end());
}

export const lineProtocol: Protocol = {
  name: 'lines',
  type: 'Lines',
  rules: lineRules,
  describe: () => ({ ports: [], capabilities: ['holds'], connectCommand: 'nc' }),
  probe: () => Promise.resolve({ kind: 'Failed', reason: 'lines have no probe', hint: 'use another protocol' }),
  accept: (socket, context) => new Promise((resolve) => serve(socket, context, resolve)),
};

/** Certificates come as JSON in base64url; their keys are believed to be proven. */
function proofOf(word: string | undefined, secret: string, user: string): Proof | undefined {
  switch (word) {
    case 'TICKET':
      return { kind: 'Password', secret, user };
    case 'ONCE':
      return { kind: 'Password', secret, user, once: true };
    case 'TOKEN':
      return { kind: 'Token', token: secret, user };
    case 'KEY':
      return { kind: 'Key', publicKey: secret, user };
    case 'CERTIFICATE': {
      const shown = JSON.parse(Buffer.from(secret, 'base64url').toString()) as Omit<UserCertificate, 'serial'>;
      return { kind: 'Certificate', certificate: { ...shown, serial: 7n }, user };
    }
    default:
      return undefined;
  }
}

function serve(socket: Duplex, context: SessionContext, done: () => void): void {
  const queue: string[] = [];
  let session: AuthenticatedSession | undefined;
  let target: net.Socket | undefined;
  let awaited: ((answer: string) => void) | undefined;
  let hold: HoldHandle | undefined;
  let busy = false;
  let over = false;
  let commands = 0;
  let proofs = 0;

  const say = (line: string): void => {
    if (!socket.destroyed && !socket.writableEnded) socket.write(`${line}\n`);
  };
  const finish = (reason: string): void => {
    if (over) return;
    over = true;
    hold?.withdraw();
    target?.destroy();
    socket.end();
    session?.ended(reason);
    done();
  };

  async function login(line: string): Promise<void> {
    const [word, secret = '', user = 'reader'] = line.split(' ');
    if (word === 'OFFER')
      return say((await context.recognises({ kind: 'Key', publicKey: secret, user })) ? 'KNOWN' : 'UNKNOWN');
    const proof = proofOf(word, secret, user);
    if (proof === undefined) return refuse('ERROR expected TICKET');
    proofs += 1;
    const answer = await context.authenticate(proof);
    if (answer.kind === 'Refused') {
      const text = `ERROR ${answer.code} ${answer.message} HINT ${answer.hint ?? '-'}`;
      return proofs < context.limits.proofs ? say(text) : refuse(text);
    }
    session = answer.session;
    session.onCut((cut) => {
      say(`CUT ${cut.code} ${cut.message}`);
      finish(cut.code);
    });
    session.onNotice(({ message }) => say(`NOTICE ${message}`));
    const { host, port } = context.connection.spec.postgresql as { host: string; port: number };
    try {
      const credential = await session.credential();
      const username = credential.kind === 'Authority' ? credential.users[0] : credential.username;
      target = await session.dial({ host, port }, context.signal);
      target.write(`LOGIN ${username}\n`);
      const greeted = new Promise<string>((resolve) => {
        awaited = resolve;
      });
      lines(
        target,
        (text) => awaited?.(text),
        () => finish('TargetGone'),
      );
      await greeted;
    } catch (error) {
      return refuse(`ERROR ${(error as Error).message}`);
    }
    say(`WELCOME ${context.id}`);
  }
  function refuse(text: string): void {
    say(text);
    finish('Refused');
  }

  function deny(id: number, live: AuthenticatedSession, command: Command, code: string, message: string): void {
    const denial = live.denialId();
    record(id, live, command, { decision: 'Deny', code, denial, message });
    live.record.whenWritten(() => say(`DENIED ${code} ${message} (${denial})`));
  }
  function record(id: number, live: AuthenticatedSession, command: Command, more: Partial<CommandBody>): void {
    const body = { id, verb: command.verb, text: command.text, effects: command.effects, facts: {}, ...more };
    live.record.append('command', body);
  }

  async function run(line: string, live: AuthenticatedSession): Promise<void> {
    const id = commands++;
    const command = lineCommand(line);
    let gate = live.gate();
    if (gate !== undefined) return deny(id, live, command, gate.code, gate.message);
    let decision: Decision = live.decide(command);
    const more: Partial<CommandBody> = {};
    if (decision.kind === 'Hold') {
      const commandHash = createHash('sha256').update(`${live.account}\n${line}`).digest('hex');
      const shown = { text: line, hiddenLiterals: 0 };
      hold = live.hold({ command, decision, shown, commandHash });
      if (!hold.preapproved) say(`HELD ${hold.name}`);
      more.hold = hold.name;
      const outcome = await hold.outcome;
      hold = undefined;
      if (over) return;
      if (outcome.kind !== 'Approved') {
        const why =
          outcome.kind === 'Failed' ? outcome.message : outcome.kind === 'Denied' ? (outcome.reason ?? '') : '';
        return deny(id, live, command, `Hold${outcome.kind}`, why);
      }
      more.approvedBy = outcome.by;
      gate = live.gate();
      if (gate !== undefined) return deny(id, live, command, gate.code, gate.message);
      decision = live.decide(command);
    }
    live.observe.decision(decision.kind);
    if (decision.kind === 'Deny') return deny(id, live, command, decision.code, decision.message);
    record(id, live, command, { decision: 'Allow', ...more });
    const error = await new Promise<Error | undefined>((resolve) => live.record.whenWritten(resolve));
    if (over) return;
    if (error !== undefined) return say(`DENIED RecordsUnwritable ${error.message}`);
    const answer = await new Promise<string>((resolve) => {
      awaited = resolve;
      target!.write(`${line}\n`);
    });
    live.record.append('result', { id, tag: answer } satisfies ResultBody);
    say(answer);
  }

  async function pump(): Promise<void> {
    if (busy) return;
    busy = true;
    while (queue.length > 0 && !over) {
      const line = queue.shift()!;
      await (session === undefined ? login(line) : run(line, session));
    }
    busy = false;
  }

  lines(
    socket,
    (line) => {
      if (line === 'CANCEL') return hold?.withdraw();
      if (queue.push(line) > 64) return finish('Flood');
      void pump();
    },
    (reason) => {
      if (reason === 'TooLong') say('ERROR a line has at most 4096 bytes');
      finish(reason ?? 'ClientGone');
    },
  );
}

/** The target: a key-value server that remembers every line it was sent. */
export interface KeyServer {
  port: number;
  received: string[];
  /** Live connections. */
  connections(): number;
  close(): Promise<void>;
}

export async function startKeyServer(): Promise<KeyServer> {
  const received: string[] = [];
  const values = new Map<string, string>();
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    lines(
      socket,
      (line) => {
        received.push(line);
        const [verb, key = '', value = ''] = line.split(' ');
        if (verb === 'GET') socket.write(`VALUE ${values.get(key) ?? '-'}\n`);
        if (verb === 'PUT') values.set(key, value);
        if (verb === 'PUT' || verb === 'DROP' || verb === 'LOGIN') socket.write('OK\n');
      },
      () => {
        sockets.delete(socket);
        socket.destroy();
      },
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    received,
    connections: () => sockets.size,
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

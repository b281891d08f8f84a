// The transport against OpenSSH's ssh and sshd, algorithm by algorithm, with keys changed under load by both sides; and
// against asyncssh for ML-KEM, which Debian's OpenSSH does not have. What is above it here is the least that echoes.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type LoggedIn, logIn } from '../../../src/protocols/ssh/auth/client.ts';
import { signerOfKeyObject } from '../../../src/protocols/ssh/keys/signer.ts';
import {
  CIPHERS,
  type Cipher,
  FULL_OFFER,
  isAead,
  KEX_ALGORITHMS,
  MACS,
  type Mac,
  type Offer,
} from '../../../src/protocols/ssh/transport/kexinit.ts';
import {
  SYSTEM_TOOLS,
  type TransportTools,
  transportOpener,
} from '../../../src/protocols/ssh/transport/open-transport.ts';
import type { OpenTransport, Transport } from '../../../src/protocols/ssh/transport/transport.ts';
import { type Field, readData, writeData } from '../../../src/protocols/ssh/wire/data.ts';
import { DISCONNECT, MSG } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { systemClock } from '../../../src/system/clock.ts';
import { type Random, systemRandom } from '../../../src/system/random.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';
import { missing, tools } from '../../support/tools.ts';

const MIB = 1024 * 1024;
const PORT_TIMEOUT_MS = 20_000;
interface Suite {
  cipher: Cipher;
  mac?: Mac;
}
const SUITES = CIPHERS.flatMap((cipher): Suite[] =>
  isAead(cipher) ? [{ cipher }] : MACS.map((mac) => ({ cipher, mac })),
);
const hostKeys = [
  signerOfKeyObject(generateKeyPairSync('ed25519').privateKey),
  ...['P-256', 'P-384', 'P-521'].map((namedCurve) =>
    signerOfKeyObject(generateKeyPairSync('ec', { namedCurve }).privateKey),
  ),
  signerOfKeyObject(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey),
];
const HOST_KEY_ALGORITHMS = hostKeys.flatMap((key) => key.algorithms);

let sshd: Sshd;
let rekeying: Sshd;
let folder = '';
before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-hostkeys-'));
  const config = [
    ['rsa', '2048'],
    ['ecdsa', '256'],
    ['ecdsa', '384'],
    ['ecdsa', '521'],
  ].map(([type, bits]) => {
    const file = `${folder}/${type}-${bits}`;
    execFileSync('ssh-keygen', ['-q', '-t', type!, '-b', bits!, '-N', '', '-f', file]);
    return `HostKey ${file}`;
  });
  sshd = await startSshd({ config });
  rekeying = await startSshd({ config: ['RekeyLimit 1M'] });
});
after(async () => {
  await sshd?.stop();
  await rekeying?.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

const opener = (offer: Partial<Offer> = {}, more: Partial<TransportTools> = {}): OpenTransport =>
  transportOpener({ ...SYSTEM_TOOLS, ...more, offer: { ...FULL_OFFER, ...offer } });
const offerOf = (suite: Suite): Partial<Offer> => ({
  ciphers: [suite.cipher],
  ...(suite.mac === undefined ? {} : { macs: [suite.mac] }),
});
const deadline = (): AbortSignal => AbortSignal.timeout(PORT_TIMEOUT_MS);

/** A server of ours for one connection. */
async function serveOnce(
  use: (transport: Transport) => void,
  open: OpenTransport = opener(),
): Promise<{ port: number; done: Promise<Transport> }> {
  const done = Promise.withResolvers<Transport>();
  const listener = net.createServer((socket) => {
    listener.close();
    open(socket, {
      role: 'Server',
      software: 'Sallyport',
      signal: deadline(),
      handshakeMs: PORT_TIMEOUT_MS,
      hostKeys,
    }).then(
      (transport) => {
        use(transport);
        done.resolve(transport);
      },
      (error: Error) => done.reject(error),
    );
  });
  done.promise.catch(() => undefined);
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  return { port: (listener.address() as net.AddressInfo).port, done: done.promise };
}

interface Ran {
  code: number | null;
  out: Buffer;
  err: string;
}
function run(command: string, args: readonly string[], input: Buffer = Buffer.alloc(0)): Promise<Ran> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], timeout: PORT_TIMEOUT_MS });
    const out: Buffer[] = [];
    let err = '';
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString();
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    child.on('close', (code) => resolve({ code, out: Buffer.concat(out), err }));
  });
}
const ssh = (port: number, options: readonly string[], input?: Buffer): Promise<Ran> =>
  run(
    'ssh',
    [
      '-F',
      'none',
      '-T',
      '-p',
      String(port),
      ...['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=VERBOSE', ...options].map(
        (o) => `-o${o}`,
      ),
      'user@127.0.0.1',
      'echo',
    ],
    input,
  );

const WINDOW = 2 ** 30;
/** Lets anybody in and echoes one channel, within the client's window. */
function echoServer(transport: Transport): void {
  let window = 0;
  let largest = 0;
  let peer = 0;
  let waiting: Buffer[] = [];
  let ended = false;
  const send = (...fields: readonly Field[]): boolean => transport.send(writeData(...fields));
  const flow = (): void => {
    while (waiting.length > 0 && window > 0) {
      const head = waiting[0]!;
      const part = head.subarray(0, Math.min(window, largest, head.length));
      if (part.length === head.length) waiting = waiting.slice(1);
      else waiting[0] = head.subarray(part.length);
      window -= part.length;
      if (!send({ byte: MSG.CHANNEL_DATA }, { uint32: peer }, { string: part })) transport.pause();
    }
    if (!ended || waiting.length > 0) return;
    ended = false;
    send({ byte: MSG.CHANNEL_EOF }, { uint32: peer });
    send({ byte: MSG.CHANNEL_REQUEST }, { uint32: peer }, { string: 'exit-status' }, { boolean: false }, { uint32: 0 });
    send({ byte: MSG.CHANNEL_CLOSE }, { uint32: peer });
  };
  transport.onDrain = () => transport.resume();
  transport.onMessage = (payload) => {
    const reader = readData(payload, 1);
    switch (payload[0]) {
      case MSG.SERVICE_REQUEST:
        return void send({ byte: MSG.SERVICE_ACCEPT }, { string: reader.string() });
      case MSG.USERAUTH_REQUEST:
        send({ byte: MSG.USERAUTH_SUCCESS });
        return transport.authenticated();
      case MSG.CHANNEL_OPEN:
        reader.string();
        peer = reader.uint32();
        window = reader.uint32();
        largest = reader.uint32();
        return void send(
          { byte: MSG.CHANNEL_OPEN_CONFIRMATION },
          { uint32: peer },
          { uint32: 0 },
          { uint32: WINDOW },
          { uint32: 32_768 },
        );
      case MSG.CHANNEL_REQUEST: {
        reader.uint32();
        reader.string();
        if (reader.boolean()) send({ byte: MSG.CHANNEL_SUCCESS }, { uint32: peer });
        return;
      }
      case MSG.CHANNEL_WINDOW_ADJUST:
        reader.uint32();
        window += reader.uint32();
        return flow();
      case MSG.CHANNEL_DATA:
        reader.uint32();
        waiting.push(reader.string());
        return flow();
      case MSG.CHANNEL_EOF:
        ended = true;
        return flow();
      case MSG.CHANNEL_CLOSE:
        return transport.disconnect(DISCONNECT.BY_APPLICATION, 'done');
    }
  };
}

/** Runs `cat` at a server where we are logged in, and answers what came back. */
function cat(transport: Transport, input: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const out: Buffer[] = [];
    let at = 0;
    let window = 0;
    let largest = 0;
    let peer = 0;
    let drained = true;
    const send = (...fields: readonly Field[]): boolean => transport.send(writeData(...fields));
    const flow = (): void => {
      while (at < input.length && window > 0 && drained) {
        const part = input.subarray(at, at + Math.min(window, largest));
        at += part.length;
        window -= part.length;
        drained = send({ byte: MSG.CHANNEL_DATA }, { uint32: peer }, { string: part });
        if (at === input.length) send({ byte: MSG.CHANNEL_EOF }, { uint32: peer });
      }
    };
    transport.onDrain = () => {
      drained = true;
      flow();
    };
    transport.onClose = (end) => reject(end.error ?? new Error(`closed: ${end.disconnect?.text}`));
    transport.onMessage = (payload) => {
      const reader = readData(payload, 1);
      switch (payload[0]) {
        case MSG.CHANNEL_OPEN_CONFIRMATION:
          reader.uint32();
          peer = reader.uint32();
          window = reader.uint32();
          largest = reader.uint32();
          send(
            { byte: MSG.CHANNEL_REQUEST },
            { uint32: peer },
            { string: 'exec' },
            { boolean: false },
            { string: 'cat' },
          );
          return flow();
        case MSG.CHANNEL_WINDOW_ADJUST:
          reader.uint32();
          window += reader.uint32();
          return flow();
        case MSG.CHANNEL_DATA:
          reader.uint32();
          return void out.push(reader.string());
        case MSG.CHANNEL_CLOSE:
          return resolve(Buffer.concat(out));
      }
    };
    send({ byte: MSG.CHANNEL_OPEN }, { string: 'session' }, { uint32: 0 }, { uint32: WINDOW }, { uint32: 32_768 });
  });
}

const countingRandom = (): Random & { cookies: number } => {
  const random = {
    cookies: 0,
    bytes(length: number) {
      if (length === 16) random.cookies += 1;
      return systemRandom.bytes(length);
    },
  };
  return random;
};
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

test('OpenSSH’s client gets through with every key exchange, cipher, MAC and type of host key', async () => {
  const choices = [
    ...KEX_ALGORITHMS.filter((name) => !name.startsWith('mlkem')).map((kex) => [`KexAlgorithms=${kex}`, 'kex', kex]),
    ...SUITES.map(({ cipher, mac }) => [
      `Ciphers=${cipher}${mac === undefined ? '' : `;MACs=${mac}`}`,
      'cipher',
      cipher,
    ]),
    ...HOST_KEY_ALGORITHMS.map((name) => [`HostKeyAlgorithms=${name}`, 'hostKey', name]),
  ] as [string, 'kex' | 'cipher' | 'hostKey', string][];
  for (const [options, what, name] of choices) {
    const { port, done } = await serveOnce(echoServer);
    const input = randomBytes(50_000);
    const ran = await ssh(port, options.split(';'), input);
    assert.equal(ran.code, 0, `${options}: ${ran.err}`);
    assert.deepEqual(ran.out, input, options);
    const { algorithms } = await done;
    assert.equal(what === 'cipher' ? algorithms.cipher.clientToServer : algorithms[what], name);
    assert.ok(algorithms.strict);
  }
});

test('OpenSSH’s client is told what is missing', async () => {
  for (const [options, text] of [
    [['KexAlgorithms=diffie-hellman-group14-sha256'], /no matching key exchange method/],
    [['Ciphers=chacha20-poly1305@openssh.com'], /no matching cipher/],
    [['Ciphers=aes128-ctr', 'MACs=hmac-sha2-256'], /no matching MAC/],
  ] as const) {
    const { port, done } = await serveOnce(echoServer);
    const ran = await ssh(port, options);
    assert.equal(ran.code, 255);
    assert.match(ran.err, text);
    await assert.rejects(done);
  }
});

test('keys change under load, by OpenSSH’s client and by us: every byte comes back', async () => {
  const input = randomBytes(12 * MIB);
  for (const { cipher, mac } of [SUITES[0]!, SUITES[2]!]) {
    const random = countingRandom();
    const limits = { ...SYSTEM_TOOLS.limits, rekeyBytes: 700_000 };
    const { port } = await serveOnce(echoServer, opener({}, { random, limits }));
    const options = [`Ciphers=${cipher}`, 'RekeyLimit=1M', ...(mac === undefined ? [] : [`MACs=${mac}`])];
    const ran = await ssh(port, options, input);
    assert.equal(ran.code, 0, ran.err);
    assert.equal(digest(ran.out), digest(input));
    assert.ok(random.cookies > 5, `${random.cookies} key exchanges`);
  }
});

async function dial(
  port: number,
  open: OpenTransport,
  hostKeyAlgorithms: readonly string[],
  blobs: Buffer[] = [],
): Promise<Transport> {
  const socket = net.connect(port, '127.0.0.1');
  return await open(socket, {
    role: 'Client',
    software: 'Sallyport',
    signal: deadline(),
    handshakeMs: PORT_TIMEOUT_MS,
    hostKeyAlgorithms,
    verifyHostKey: (blob) => void blobs.push(blob),
  });
}
const login = (transport: Transport, at: Sshd): Promise<LoggedIn> =>
  logIn(transport, {
    user: at.user,
    credential: { kind: 'Key', username: at.user, privateKey: at.privateKey, hosts: [] },
    keys: undefined,
    session: { id: 's', grant: 'g', person: 'p', grantExpiresAtMs: Date.now() + 60_000 },
    permits: {},
    clock: systemClock,
    random: systemRandom,
    deadlineMs: PORT_TIMEOUT_MS,
    signal: deadline(),
  });

test('sshd lets us through with every key exchange, cipher, MAC and type of host key, and names its signatures', async () => {
  const offers: [Partial<Offer>, readonly string[]][] = [
    ...KEX_ALGORITHMS.filter((name) => !name.startsWith('mlkem')).map((kex): [Partial<Offer>, string[]] => [
      { kex: [kex] },
      ['ssh-ed25519'],
    ]),
    ...SUITES.map((suite): [Partial<Offer>, string[]] => [offerOf(suite), ['ssh-ed25519']]),
    ...HOST_KEY_ALGORITHMS.map((name): [Partial<Offer>, string[]] => [{}, [name]]),
  ];
  for (const [offer, names] of offers) {
    const blobs: Buffer[] = [];
    const transport = await dial(sshd.port, opener(offer), names, blobs);
    assert.equal(transport.algorithms.hostKey, names[0]);
    assert.ok(transport.algorithms.strict);
    assert.deepEqual(blobs, [transport.hostKey]);
    const answer = await new Promise<Buffer>((resolve) => {
      transport.onMessage = resolve;
      transport.send(writeData({ byte: MSG.SERVICE_REQUEST }, { string: 'ssh-userauth' }));
    });
    assert.deepEqual(answer, writeData({ byte: MSG.SERVICE_ACCEPT }, { string: 'ssh-userauth' }));
    assert.ok(transport.peerSignatureAlgorithms?.includes('rsa-sha2-512'));
    transport.disconnect(DISCONNECT.BY_APPLICATION, 'done');
  }
});

test('keys change under load, by sshd and by us: every byte comes back', async () => {
  const input = randomBytes(12 * MIB);
  const random = countingRandom();
  const limits = { ...SYSTEM_TOOLS.limits, rekeyBytes: 700_000 };
  const transport = await dial(rekeying.port, opener({}, { random, limits }), ['ssh-ed25519']);
  await login(transport, rekeying);
  assert.equal(digest(await cat(transport, input)), digest(input));
  assert.ok(random.cookies > 5, `${random.cookies} key exchanges`);
  transport.destroy();
});

const ASYNCSSH = `
import asyncssh, asyncio, sys
port = int(sys.argv[1])
class Quiet(asyncssh.SSHClient):
    def validate_host_public_key(self, *args): return True
async def main():
    connection, client = await asyncssh.create_connection(Quiet, '127.0.0.1', port, username='user', known_hosts=b'',
        kex_algs=['mlkem768x25519-sha256'], encryption_algs=['aes256-gcm@openssh.com'], client_keys=None, config=None)
    print(connection.get_extra_info('send_cipher'))
    result = await connection.run('echo', input='hello from asyncssh')
    print(result.stdout)
asyncio.run(main())
`;
const ASYNCSSH_SERVER = `
import asyncssh, asyncio, sys
class Open(asyncssh.SSHServer):
    def begin_auth(self, username): return False
async def handle(process):
    process.stdout.write(await process.stdin.read())
    process.exit(0)
async def main():
    key = asyncssh.generate_private_key('ssh-ed25519')
    server = await asyncssh.create_server(Open, '127.0.0.1', 0, server_host_keys=[key], process_factory=handle,
        kex_algs=['mlkem768x25519-sha256'], encoding=None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(20)
asyncio.run(main())
`;

test('ML-KEM: asyncssh’s client and ours agree on the hybrid secret', { skip: missing('sshPython') }, async () => {
  const { port, done } = await serveOnce(echoServer);
  const ran = await run(tools.sshPython!, ['-c', ASYNCSSH, String(port)]);
  assert.match(ran.out.toString(), /hello from asyncssh/, ran.err);
  const { algorithms, peerVersion } = await done;
  assert.match(peerVersion, /AsyncSSH/);
  assert.equal(algorithms.kex, 'mlkem768x25519-sha256');
});

test('ML-KEM: asyncssh’s server and our client agree on the hybrid secret', {
  skip: missing('sshPython'),
}, async () => {
  const child = spawn(tools.sshPython!, ['-c', ASYNCSSH_SERVER], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: PORT_TIMEOUT_MS,
  });
  try {
    const port = await new Promise<number>((resolve) =>
      child.stdout.once('data', (line: Buffer) => resolve(Number(line.toString()))),
    );
    const transport = await dial(port, opener(), ['ssh-ed25519']);
    assert.equal(transport.algorithms.kex, 'mlkem768x25519-sha256');
    const answer = await new Promise<Buffer>((resolve) => {
      transport.onMessage = resolve;
      transport.send(writeData({ byte: MSG.SERVICE_REQUEST }, { string: 'ssh-userauth' }));
    });
    assert.equal(answer[0], MSG.SERVICE_ACCEPT);
    transport.destroy();
  } finally {
    child.kill('SIGKILL');
  }
});

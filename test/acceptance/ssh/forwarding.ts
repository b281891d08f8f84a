// Criteria of forwards: where they lead is judged, what passes is counted, and an end ends them, by OpenSSH's own client.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { percentile } from '../../bench/statistics.ts';
import { alice, type SshScene, startSshScene } from '../../support/ssh-scene.ts';
import { freePort } from '../../support/sshd.ts';
import { talk } from '../../support/talk.ts';
import { type CriteriaGroup, trials } from '../criterion.ts';

const MEGABYTES = Number(process.env.ACCEPT_MB ?? 256);
const CUTS = trials(25);

let scene: SshScene;
/** The grant on web1 that is in force. */
let granted: string;
let echo: net.Server;
/** What rules let the target dial. */
let echoPort: number;
const clients: ChildProcess[] = [];

interface Forwarding {
  client: ChildProcess;
  said(): string;
}

function start(args: readonly string[]): Forwarding {
  const client = scene.spawn(['-o', 'LogLevel=INFO', ...args]);
  let text = '';
  client.stderr?.on('data', (data: Buffer) => (text += data.toString()));
  client.stdout?.resume();
  clients.push(client);
  return { client, said: () => text };
}

async function ended({ client }: Forwarding): Promise<void> {
  if (client.exitCode !== null || client.signalCode !== null) return;
  const closed = new Promise((resolve) => client.once('close', resolve));
  client.kill();
  await closed;
}

async function until(holds: () => boolean, what: () => string): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited too long: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function listening(port: number, by: Forwarding): Promise<void> {
  const mark = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A`;
  await until(() => fs.readFileSync('/proc/net/tcp', 'utf8').includes(mark), by.said);
}

async function allocated(by: Forwarding): Promise<number> {
  await until(() => /Allocated port \d+/.test(by.said()), by.said);
  return Number(/Allocated port (\d+)/.exec(by.said())![1]);
}

const at = (port: number) => ({ port, host: '127.0.0.1' });

/** Writes as fast as it is taken. */
function pour(port: number): net.Socket {
  const socket = net.connect(at(port));
  const more = (): void => {
    while (!socket.destroyed && socket.write(Buffer.alloc(16_384)));
  };
  socket.on('connect', more);
  socket.on('drain', more);
  socket.on('error', () => undefined);
  return socket;
}

/** When the grant ended, by `performance.now`. */
async function finished(grant: string): Promise<number> {
  for (;;) {
    const { status } = await scene.local.json<{
      status?: { conditions?: { type: string; status: string; lastTransitionTime: string }[] };
    }>(['status', grant], alice);
    const end = status?.conditions?.find((each) => each.type === 'Finished' && each.status === 'True');
    if (end !== undefined) return performance.now() - (Date.now() - Date.parse(end.lastTransitionTime));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export const forwarding: CriteriaGroup = {
  name: 'forwarding',
  async start() {
    echo = net.createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
    echoPort = (echo.address() as net.AddressInfo).port;
    scene = await startSshScene(
      {
        web1: `  - {name: forwards, action: Allow, ssh: {forwarding: ['127.0.0.1:${echoPort}', '/tmp/*/*.sock', 'listen:127.0.0.1:*', 'listen:/tmp/*/*.sock', agent, x11]}}
  - {name: some, action: Allow, ssh: {commands: ['echo **', 'ssh-add -l', 'python3 **', 'sleep *']}}
  - {name: not-there, action: Deny, ssh: {forwarding: ['10.0.0.0/8:*']}}`,
        plain: "  - {name: some, action: Allow, ssh: {commands: ['echo **', 'ssh-add -l']}}",
        wide: '  - {name: all, action: Allow}',
      },
      { sshd: { config: ['X11Forwarding yes', 'X11UseLocalhost yes'] } },
    );
    granted = await scene.request('web1');
    for (const name of ['plain', 'wide']) await scene.request(name);
  },
  criteria: [
    {
      claim: `${MEGABYTES} MB through -L and back arrive whole`,
      async check() {
        const port = await freePort();
        const forward = start(['-N', '-L', `${port}:127.0.0.1:${echoPort}`, 'web1']);
        await listening(port, forward);
        const bytes = Buffer.concat(Array.from({ length: MEGABYTES }, () => randomBytes(1 << 20)));
        const started = performance.now();
        assert.ok((await talk(at(port), bytes)).equals(bytes));
        const seconds = (performance.now() - started) / 1000;
        await ended(forward);
        const straight = await freePort();
        const direct = spawn(
          'ssh',
          `-N -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i ${scene.sshd.privateKeyFile} -p ${scene.sshd.port} -L ${straight}:127.0.0.1:${echoPort} ${scene.sshd.user}@127.0.0.1`.split(
            ' ',
          ),
          { stdio: 'ignore' },
        );
        clients.push(direct);
        await listening(straight, { client: direct, said: () => 'direct' });
        const directly = performance.now();
        assert.ok((await talk(at(straight), bytes)).equals(bytes));
        const directSeconds = (performance.now() - directly) / 1000;
        await ended({ client: direct, said: () => '' });
        const rate = (of: number): string => (MEGABYTES / of).toFixed(0);
        return `${rate(seconds)} MB/s each way at once; without a gateway ${rate(directSeconds)} MB/s`;
      },
    },
    {
      claim: '-L, -D, -W, -R with a port of the target’s choice, and sockets both ways',
      async check() {
        const local = await freePort();
        const dynamic = await freePort();
        const server = net.createServer({ allowHalfOpen: true }, (peer) => peer.pipe(peer));
        const socket = path.join(scene.sshd.folder, 'app.sock');
        const remoteSocket = path.join(scene.sshd.folder, 'remote.sock');
        const socketPort = await freePort();
        await new Promise<void>((resolve) => server.listen(socket, resolve));
        const forward = start([
          '-N',
          '-L',
          `${local}:127.0.0.1:${echoPort}`,
          '-D',
          String(dynamic),
          '-R',
          `0:127.0.0.1:${echoPort}`,
          '-L',
          `${socketPort}:${socket}`,
          '-R',
          `${remoteSocket}:127.0.0.1:${echoPort}`,
          'web1',
        ]);
        try {
          await listening(local, forward);
          const remote = await allocated(forward);
          await until(() => fs.existsSync(remoteSocket), forward.said);
          assert.equal((await talk(at(local), 'L')).toString(), 'L');
          assert.equal((await talk(at(remote), 'R')).toString(), 'R');
          assert.equal((await talk(at(socketPort), 'socket')).toString(), 'socket');
          assert.equal((await talk({ path: remoteSocket }, 'back')).toString(), 'back');
          const curl = await scene.run(
            'ssh',
            ['-F', scene.config, '-l', scene.sshd.user, '-W', `0x7f.1:${echoPort}`, 'web1'],
            { input: 'W' },
          );
          assert.equal(curl.stdout, 'W', curl.stderr);
        } finally {
          await ended(forward);
          server.close();
        }
        const { stdout } = await scene.local.cli(['audit', 'forwards'], alice);
        for (const place of [`127.0.0.1:${echoPort}`, socket, remoteSocket]) assert.ok(stdout.includes(place), stdout);
        return '5 ways, each in `audit forwards`';
      },
    },
    {
      claim: 'INV-09: a denied destination says why, reaches nothing, and leaves the others as they are',
      async check() {
        const [good, bad] = [await freePort(), await freePort()];
        const forward = start(['-N', '-L', `${good}:127.0.0.1:${echoPort}`, '-L', `${bad}:10.11.12.13:443`, 'web1']);
        await listening(bad, forward);
        for (let round = 0; round < 10; round += 1) {
          assert.equal((await talk(at(bad), 'x').catch(() => Buffer.alloc(0))).length, 0);
          assert.equal((await talk(at(good), 'still')).toString(), 'still');
        }
        await until(() => forward.said().includes('rule "not-there"'), forward.said);
        await ended(forward);
        return '10 denied, 10 passed, 1 connection';
      },
    },
    {
      claim:
        'under a rule that allows everything: no metadata, no sshd, whatever their spelling; agent and X11 by name alone',
      async check() {
        const tricks = [
          ...['169.254.169.254', '0xa9fea9fe', '2852039166', '::ffff:169.254.169.254', 'metadata.google.internal'].map(
            (host) => `[${host}]:80`,
          ),
          ...['127.0.0.1', '127.1', '0x7f.1', '::ffff:127.0.0.1', 'LOCALHOST.', '::1', '0'].flatMap((host) => [
            `[${host}]:${scene.sshd.port}`,
            `[${host}]:22`,
          ]),
        ];
        for (const trick of tricks) {
          const { code, stdout } = await scene.ssh(['-W', trick, 'wide']);
          assert.notEqual(code, 0, trick);
          assert.equal(stdout, '', trick);
        }
        return `${tricks.length} spellings`;
      },
    },
    {
      claim: 'the agent of the client, where it is let through, and nowhere else',
      async check() {
        const socket = path.join(scene.folder, 'agent.sock');
        const agent = execFileSync('ssh-agent', ['-a', socket, '-s'], { encoding: 'utf8' });
        try {
          const env = { ...process.env, SSH_AUTH_SOCK: socket };
          execFileSync('ssh-add', ['-q', scene.sshd.privateKeyFile], { env, stdio: 'pipe' });
          const list = (connection: string) =>
            scene.run('sh', [
              '-c',
              `SSH_AUTH_SOCK=${socket} ssh -A -F ${scene.config} -l ${scene.sshd.user} ${connection} ssh-add -l`,
            ]);
          const through = await list('web1');
          assert.match(through.stdout, /ED25519/, through.output);
          const refused = await list('plain');
          assert.doesNotMatch(refused.output, /ED25519/);
        } finally {
          process.kill(Number(/SSH_AGENT_PID=(\d+)/.exec(agent)![1]));
        }
        return 'ssh-add -l through; refused without the rule';
      },
    },
    {
      claim: 'X11: a client at the target reaches the display; no record has the cookie',
      async check() {
        const display = 90 + (process.pid % 900);
        fs.mkdirSync('/tmp/.X11-unix', { recursive: true });
        let setup = '';
        const server = net.createServer((socket) => {
          socket.on('error', () => undefined);
          socket.once('data', (data: Buffer) => {
            setup = data.toString('latin1');
            socket.end('display');
          });
        });
        const place = `/tmp/.X11-unix/X${display}`;
        await new Promise<void>((resolve) => server.listen(place, resolve));
        const program = [
          'import os,socket,subprocess,struct,sys',
          'd=os.environ["DISPLAY"]; n=int(d.split(":")[1].split(".")[0])',
          'c=bytes.fromhex(subprocess.check_output(["xauth","list",d],text=True).split()[2])',
          's=socket.create_connection(("127.0.0.1",6000+n))',
          's.sendall(struct.pack("<BxHHHHxx",108,11,0,18,16)+b"MIT-MAGIC-COOKIE-1\\0\\0"+c)',
          'print(s.recv(64).decode(),c.hex())',
        ].join('\n');
        const file = path.join(scene.sshd.folder, 'x11.py');
        fs.writeFileSync(file, program);
        try {
          const { stdout, output } = await scene.run('sh', [
            '-c',
            `DISPLAY=:${display} ssh -Y -F ${scene.config} -l ${scene.sshd.user} web1 python3 ${file}`,
          ]);
          const [, cookie] = /^display ([0-9a-f]{32})$/m.exec(stdout) ?? assert.fail(output);
          assert.ok(setup.includes('MIT-MAGIC-COOKIE-1'));
          // The program printed it; the records keep what it printed, and nothing else has it.
          const found = execFileSync(
            'sh',
            [
              '-c',
              `grep -rhoa '"kind":"[a-z]*"[^\\n]*${cookie}' ${scene.local.state} | grep -v '"kind":"output"' || true`,
            ],
            { encoding: 'utf8' },
          );
          assert.equal(found, '');
        } finally {
          server.close();
          fs.rmSync(place, { force: true });
        }
        return 'one display, one cookie';
      },
    },
    {
      claim: `INV-03: the end of a grant ends forwards of both directions, ${CUTS} times, and nothing flows afterwards`,
      async check() {
        const times: number[] = [];
        let late = 0;
        for (let trial = 0; trial < CUTS; trial += 1) {
          if (trial > 0) granted = await scene.request('web1');
          let taken = 0;
          let last = 0;
          let ends = 0;
          const sink = net.createServer((socket) => {
            socket.on('data', (data: Buffer) => {
              taken += data.length;
            });
            socket.on('error', () => undefined);
            socket.on('close', () => {
              ends += 1;
              last = performance.now();
            });
          });
          // The echo's place: its port is what rules let the target dial.
          await new Promise<void>((resolve) => echo.close(() => resolve()));
          await new Promise<void>((resolve) => sink.listen(echoPort, '127.0.0.1', resolve));
          const port = await freePort();
          const forward = start(['-N', '-L', `${port}:127.0.0.1:${echoPort}`, '-R', `0:127.0.0.1:${echoPort}`, 'web1']);
          await listening(port, forward);
          const pouring = [pour(port), pour(await allocated(forward))];
          await until(() => taken > 2_000_000, forward.said);
          const answer = await scene.local.cli(['withdraw', granted, '--yes'], alice);
          assert.equal(answer.code, 0, answer.output);
          const began = await finished(granted);
          await until(() => ends === 2, forward.said);
          times.push(Math.max(0, last - began));
          const before = taken;
          await new Promise((resolve) => setTimeout(resolve, 200));
          late += taken - before;
          for (const socket of pouring) socket.destroy();
          await ended(forward);
          await new Promise<void>((resolve) => sink.close(() => resolve()));
          await new Promise<void>((resolve) => echo.listen(echoPort, '127.0.0.1', resolve));
        }
        times.sort((a, b) => a - b);
        assert.equal(late, 0);
        const p99 = percentile(times, 99);
        assert.ok(p99 <= 500, `p99 ${p99} ms`);
        return `both closed at the target p50 ${percentile(times, 50).toFixed(0)} ms, p99 ${p99.toFixed(0)} ms after the end; 0 bytes later`;
      },
    },
  ],
  async stop() {
    for (const client of clients) client.kill('SIGKILL');
    echo?.close();
    await scene?.stop();
  },
};

// Criteria of other clients than OpenSSH's, of ways to use OpenSSH's that programs have, and of other targets than a plain
// sshd: what works straight works through the gateway. Programs that are not here are named as skipped.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { hasProgram } from '../../support/local.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { alice, type SshScene, startSshScene } from '../../support/ssh-scene.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';
import { tools } from '../../support/tools.ts';
import type { CriteriaGroup } from '../criterion.ts';

const SUPPORT = path.join(import.meta.dirname, '../../support');

let scene: SshScene;
/** A port at the target that says hello. */
let hello: net.Server;
let helloPort: number;
/** The machine behind the jump host. */
let jump: Sshd | undefined;
/** How the gateway is reached without a configuration of OpenSSH's. */
let way: { port: string; key: string; knownHosts: string };
let source: string;

const at = (name: string): string => path.join(scene.folder, name);

async function good(program: string, args: readonly string[], input: string | Buffer = ''): Promise<string> {
  const { code, stdout, output } = await scene.run(program, args, { input, timeoutMs: 120_000 });
  assert.equal(code, 0, `${program}: ${output.slice(-2000)}`);
  return stdout;
}

function arrived(name: string): void {
  assert.ok(fs.readFileSync(at(name)).equals(fs.readFileSync(source)), name);
  fs.rmSync(at(name));
}

/** Each that is here is tried; the rest is named. */
async function each(
  trials: Readonly<Record<string, { needs: readonly string[]; run(): Promise<void> }>>,
): Promise<string> {
  const tried: string[] = [];
  const skipped: string[] = [];
  for (const [name, { needs, run }] of Object.entries(trials)) {
    const missing = needs.filter((program) => !hasProgram(program));
    if (missing.length > 0) {
      skipped.push(`${name} (no ${missing.join(', ')})`);
      continue;
    }
    await run().catch((error: unknown) => {
      throw new Error(`${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    });
    tried.push(name);
  }
  assert.ok(tried.length > 0, `none is here: ${skipped.join(', ')}; \`scripts/tools.sh ssh\` as root brings them`);
  return `${tried.join(', ')}${skipped.length === 0 ? '' : `; skipped: ${skipped.join(', ')}`}`;
}

async function putty(): Promise<void> {
  const key = at('key.ppk');
  await good('puttygen', [way.key, '-o', key, '-O', 'private']);
  const plain = fs
    .readFileSync(way.knownHosts, 'utf8')
    .split('\n')
    .find((line) => /^[^@].* ssh-ed25519 /.test(line));
  fs.writeFileSync(at('host.pub'), plain!.split(' ').slice(1, 3).join(' '));
  const fingerprint = (await good('ssh-keygen', ['-lf', at('host.pub')])).split(' ')[1]!;
  const options = ['-batch', '-P', way.port, '-l', scene.sshd.user, '-i', key, '-hostkey', fingerprint];
  const ran = await scene.run('plink', ['-ssh', ...options, '127.0.0.1', 'cat; echo err >&2; exit 3'], { input: 'in' });
  assert.deepEqual([ran.code, ran.stdout, ran.stderr], [3, 'in', 'err\n']);
  assert.match(await good('plink', ['-ssh', '-t', ...options, '127.0.0.1', 'stty size; tty']), /24 80\r\n\/dev\/pts\//);
  await good(
    'psftp',
    [...options, '127.0.0.1'],
    `put ${source} ${at('there')}\nget ${at('there')} ${at('back')}\nquit\n`,
  );
  arrived('back');
  for (const protocol of ['-sftp', '-scp']) {
    await good('pscp', ['-q', protocol, ...options, source, `127.0.0.1:${at('there')}`]);
    await good('pscp', ['-q', protocol, ...options, `127.0.0.1:${at('there')}`, at('back')]);
    arrived('back');
  }
}

async function goClient(): Promise<void> {
  const program = at('go-client');
  await good('go', ['build', '-C', path.join(SUPPORT, 'go-client'), '-o', program, '.']);
  const { user } = scene.sshd;
  const args = [`127.0.0.1:${way.port}`, user, way.key, way.knownHosts, scene.folder, `127.0.0.1:${helloPort}`];
  assert.equal(await good(program, args), 'good\n');
}

async function asyncssh(): Promise<void> {
  const script = path.join(SUPPORT, 'asyncssh-client.py');
  await good(tools.sshPython!, [script, way.port, scene.sshd.user, way.key, way.knownHosts, scene.folder]);
}

async function lftp(): Promise<void> {
  const program = `set sftp:connect-program 'ssh -a -x -F ${scene.config} -l ${scene.sshd.user}'`;
  const commands = `put ${source} -o ${at('there')}; get ${at('there')} -o ${at('back')}; bye`;
  await good('lftp', ['-e', `${program}; set net:max-retries 1; open sftp://open; ${commands}`]);
  arrived('back');
}

async function sshfs(): Promise<void> {
  const mount = at('mount');
  fs.mkdirSync(mount, { recursive: true });
  await good('sshfs', ['-F', scene.config, `${scene.sshd.user}@open:${scene.folder}`, mount]);
  try {
    await good('cp', [source, path.join(mount, 'there')]);
    await good('mv', [path.join(mount, 'there'), path.join(mount, 'moved')]);
    await good('cmp', [source, path.join(mount, 'moved')]);
    await good('rm', [path.join(mount, 'moved')]);
  } finally {
    await scene.run('fusermount3', ['-u', mount]);
  }
}

/** A gateway of its own in front of another target. */
async function before(sshd: Sshd, check: (gateway: SshGateway, host: string) => Promise<void>): Promise<void> {
  const gateway = await startSshGateway({ protocol: createSshProtocol(), sshd, policy: transparentPolicy() });
  try {
    await check(gateway, `${sshd.user}@127.0.0.1`);
  } finally {
    await gateway.close();
    await sshd.stop();
  }
}

async function transfers(
  gateway: SshGateway,
  host: string,
  folder: string,
  programs: readonly string[][],
): Promise<void> {
  const options = [...gateway.args(), '-P', String(gateway.port)];
  for (const [program, ...flags] of programs) {
    if (program === 'sftp')
      await good(
        'sftp',
        [...options, '-b', '-', host],
        `put ${source} ${folder}/there\nget ${folder}/there ${at('back')}\nrm ${folder}/there\n`,
      );
    else {
      await good('scp', [...options, ...flags, source, `${host}:${folder}/there`]);
      await good('scp', [...options, ...flags, `${host}:${folder}/there`, at('back')]);
    }
    arrived('back');
  }
}

async function pamTarget(): Promise<void> {
  await before(await startSshd({ config: ['UsePAM yes'] }), async (gateway, host) => {
    const ran = await gateway.ssh(['-tt', host, 'tty; exit 3']);
    assert.equal(ran.code, 3, ran.stderr);
    assert.match(ran.stdout.toString(), /\/dev\/pts/);
    await transfers(gateway, host, scene.folder, [['sftp'], ['scp'], ['scp', '-O']]);
  });
}

async function chrootTarget(): Promise<void> {
  // All of the path must be root's alone.
  const root = fs.mkdtempSync('/run/sallyport-chroot-');
  fs.chmodSync(root, 0o755);
  fs.mkdirSync(path.join(root, 'in'));
  try {
    const config = [`ChrootDirectory ${root}`, 'ForceCommand internal-sftp'];
    await before(await startSshd({ config }), async (gateway, host) => {
      await transfers(gateway, host, '/in', [['sftp'], ['scp']]);
    });
  } finally {
    fs.rmSync(root, { recursive: true, force: true });
  }
}

async function asyncsshTarget(): Promise<void> {
  const likeness = await startSshd();
  const port = await freePort();
  const script = path.join(SUPPORT, 'asyncssh-server.py');
  const files = ['host', 'authorized_keys'].map((name) => path.join(likeness.folder, name));
  const server = spawn(tools.sshPython!, [script, String(port), ...files], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await new Promise<void>((resolve, reject) => {
      server.stdout.once('data', () => resolve());
      server.once('exit', () => reject(new Error('the server did not start')));
    });
    await before({ ...likeness, port }, async (gateway, host) => {
      const ran = await gateway.ssh([host, 'cat; exit 3'], { input: 'in' });
      assert.deepEqual([ran.code, ran.stdout.toString()], [3, 'in'], ran.stderr);
      // OpenSSH's scp over sftp fails there without a gateway, too.
      await transfers(gateway, host, scene.folder, [['sftp'], ['scp', '-O']]);
    });
  } finally {
    server.kill();
  }
}

export const clients: CriteriaGroup = {
  name: 'clients',
  async start() {
    hello = net.createServer((socket) => socket.end('hello\n'));
    await new Promise<void>((resolve) => hello.listen(0, '127.0.0.1', resolve));
    helloPort = (hello.address() as net.AddressInfo).port;
    jump = await startSshd();
    scene = await startSshScene({
      open: [
        '  - {name: all, action: Allow}',
        `  - {name: next, action: Allow, ssh: {forwarding: ['127.0.0.1:${jump.port}']}}`,
      ].join('\n'),
    });
    await scene.request('open');
    const { stdout: line } = await scene.local.cli(['dsn', 'open', '--user', scene.sshd.user], alice);
    const option = (name: string): string => new RegExp(`${name}[= ](\\S+)`).exec(line)![1]!;
    way = { port: option(' -p'), key: at('key'), knownHosts: option('UserKnownHostsFile') };
    fs.copyFileSync(option('IdentityFile'), way.key);
    fs.chmodSync(way.key, 0o600);
    source = at('source');
    fs.writeFileSync(source, randomBytes(5_000_001));
  },
  criteria: [
    {
      claim: 'other clients: commands, terminals, files both ways',
      check: () =>
        each({
          'PuTTY 0.78': { needs: ['puttygen', 'plink', 'psftp', 'pscp'], run: putty },
          'Go x/crypto/ssh and pkg/sftp': { needs: ['go'], run: goClient },
          asyncssh: { needs: [tools.sshPython ?? 'python with asyncssh'], run: asyncssh },
          lftp: { needs: ['lftp'], run: lftp },
          sshfs: { needs: ['sshfs', 'fusermount3'], run: sshfs },
        }),
    },
    {
      claim: 'a jump host: ssh -J through the gateway to the machine behind',
      async check() {
        const { port, privateKeyFile, user } = jump!;
        const behind = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-i', privateKeyFile];
        const jumping = ['-F', scene.config, ...behind, '-J', `${scene.sshd.user}@open`, '-p', String(port)];
        const ran = await scene.run('ssh', [...jumping, `${user}@127.0.0.1`, 'cat; exit 3'], { input: 'in' });
        assert.deepEqual([ran.code, ran.stdout], [3, 'in'], ran.stderr);
        return 'a command with its input and exit status';
      },
    },
    {
      claim: 'an editor’s way in: a script on the input of bash, then connections through -D and a socket',
      async check() {
        const socks = await freePort();
        const socket = at('editor.sock');
        const remote = at('remote.sock');
        const server = net.createServer((peer) => peer.end('hello\n'));
        await new Promise<void>((resolve) => server.listen(remote, resolve));
        const forwards = ['-D', String(socks), '-L', `${socket}:${remote}`];
        const child = scene.spawn(['-T', '-o', 'ExitOnForwardFailure=yes', ...forwards, 'open', 'bash']);
        try {
          child.stdin!.write('uname -s; read -r last; echo "last: $last"\n');
          await said(child, 'Linux\n');
          for (let index = 0; index < 20; index += 1) assert.equal(await throughSocks(socks, helloPort), 'hello\n');
          assert.equal(await readAll(net.connect(socket)), 'hello\n');
          const end = said(child, 'last: over\n');
          child.stdin!.end('over\n');
          await end;
        } finally {
          child.kill();
          server.close();
        }
        return '20 connections by port, 1 by socket, beside a running script';
      },
    },
    {
      claim: 'other targets: commands and files both ways',
      check: () =>
        each({
          'sshd with PAM': { needs: [process.getuid?.() === 0 ? 'sh' : 'root'], run: pamTarget },
          'sshd that locks in to sftp': { needs: [process.getuid?.() === 0 ? 'sh' : 'root'], run: chrootTarget },
          asyncssh: { needs: [tools.sshPython ?? 'python with asyncssh'], run: asyncsshTarget },
        }),
    },
  ],
  async stop() {
    hello?.close();
    await jump?.stop();
    await scene?.stop();
  },
};

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function readAll(socket: net.Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    socket.setTimeout(20_000, () => socket.destroy(new Error('nothing came')));
    socket.on('data', (data) => (text += data.toString()));
    socket.on('end', () => resolve(text));
    socket.on('error', reject);
  });
}

/** What 127.0.0.1:PORT says, by a SOCKS 5 proxy. */
async function throughSocks(proxy: number, port: number): Promise<string> {
  const socket = net.connect(proxy, '127.0.0.1');
  socket.write(Buffer.from([5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 255]));
  return (await readAll(socket)).slice(12);
}

function said(child: ReturnType<SshScene['spawn']>, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let all = '';
    const timer = setTimeout(() => reject(new Error(`said no ${JSON.stringify(text)}: ${all}`)), 60_000);
    child.stderr!.on('data', (data: Buffer) => (all += data.toString()));
    child.stdout!.on('data', (data: Buffer) => {
      all += data.toString();
      if (!all.includes(text)) return;
      clearTimeout(timer);
      resolve();
    });
  });
}

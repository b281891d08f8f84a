// Criteria of OpenSSH's own programs and what is built on them: through the gateway they do what they do without it.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { alice, type SshScene, startSshScene } from '../../support/ssh-scene.ts';
import { startTerminal } from '../../support/terminal.ts';
import { tools } from '../../support/tools.ts';
import type { CriteriaGroup } from '../criterion.ts';

const MEGABYTES = Number(process.env.ACCEPT_MB ?? 1024);
const SESSIONS = 100;

let scene: SshScene;
/** The target straight, as its owners reach it. */
let direct: string[];

const at = (name: string): string => path.join(scene.folder, name);

function digest(file: string): string {
  const hash = createHash('sha256');
  const descriptor = fs.openSync(file, 'r');
  const piece = Buffer.alloc(1 << 20);
  for (let read = fs.readSync(descriptor, piece); read > 0; read = fs.readSync(descriptor, piece)) {
    hash.update(piece.subarray(0, read));
  }
  fs.closeSync(descriptor);
  return hash.digest('hex');
}

/** A file of random megabytes, made once. */
function bigFile(): string {
  const file = at('big');
  if (fs.existsSync(file)) return file;
  const descriptor = fs.openSync(file, 'w');
  for (let index = 0; index < MEGABYTES; index += 1) fs.writeSync(descriptor, randomBytes(1 << 20));
  fs.closeSync(descriptor);
  return file;
}

async function good(program: string, args: readonly string[], timeoutMs = 600_000): Promise<string> {
  const { code, stdout, output } = await scene.run(program, args, { timeoutMs });
  assert.equal(code, 0, `${program} ${args.join(' ')}: ${output.slice(-2000)}`);
  return stdout;
}

function ansibleProgram(): string {
  assert.ok(tools.sshPython !== undefined, 'scripts/tools.sh ssh brings Ansible');
  return path.join(path.dirname(tools.sshPython), 'ansible');
}

const sshCommand = (): string => `ssh -F ${scene.config} -l ${scene.sshd.user}`;

export const openssh: CriteriaGroup = {
  name: 'openssh',
  async start() {
    scene = await startSshScene({
      open: '  - {name: all, action: Allow}',
      ruled: [
        "  - {name: some, action: Allow, ssh: {commands: ['echo **', 'true', 'sleep *']}}",
        "  - {name: no-id, action: Deny, ssh: {commands: ['id **']}}",
      ].join('\n'),
    });
    direct = [
      '-F',
      '/dev/null',
      '-o',
      'StrictHostKeyChecking=no',
      '-o',
      `UserKnownHostsFile=${at('direct-hosts')}`,
      '-o',
      'LogLevel=ERROR',
      '-i',
      scene.sshd.privateKeyFile,
      '-p',
      String(scene.sshd.port),
      '-l',
      scene.sshd.user,
      '127.0.0.1',
    ];
    await scene.request('open');
    await scene.request('ruled');
  },
  criteria: [
    {
      claim: 'an interactive terminal: resize, Ctrl-C, Ctrl-Z, UTF-8, vim, top',
      async check() {
        const note = at('note.txt');
        const terminal = startTerminal(`${sshCommand()} open`, { env: scene.env });
        try {
          await terminal.waitFor(/[$#%>] ?$/m);
          terminal.type(`exec bash --norc --noprofile`);
          terminal.press('Enter');
          terminal.type(`PS1='ready> '; clear`);
          terminal.press('Enter');
          await terminal.waitFor(/^ready>$/m);
          terminal.type('stty size');
          terminal.press('Enter');
          await terminal.waitFor(/^24 80$/m);
          terminal.resize(101, 33);
          terminal.type('stty size');
          terminal.press('Enter');
          await terminal.waitFor(/^33 101$/m);
          terminal.type("printf '%s|\\n' 'zażółć 你好 🚪'");
          terminal.press('Enter');
          await terminal.waitFor(/^zażółć 你好 🚪\|$/m);
          terminal.type('sleep 600');
          terminal.press('Enter');
          await new Promise((resolve) => setTimeout(resolve, 300));
          terminal.press('C-c');
          await terminal.waitFor(/\^C\s*\nready>/);
          terminal.type('sleep 601');
          terminal.press('Enter');
          await new Promise((resolve) => setTimeout(resolve, 300));
          terminal.press('C-z');
          await terminal.waitFor(/Stopped\s+sleep 601/);
          terminal.type(`kill %1; clear; vim -u NONE ${note}`);
          terminal.press('Enter');
          await terminal.waitFor(/^~$/m);
          terminal.type('ifirst line');
          terminal.press('Enter');
          terminal.type('second: żółw');
          terminal.press('Escape');
          terminal.type(':wq');
          terminal.press('Enter');
          await terminal.waitFor(/^ready>$/m);
          assert.equal(fs.readFileSync(note, 'utf8'), 'first line\nsecond: żółw\n');
          terminal.type('top');
          terminal.press('Enter');
          await terminal.waitFor(/load average/);
          terminal.press('q');
          terminal.type('exit 7');
          terminal.press('Enter');
          await terminal.waitFor(/Pane is dead \(status 7/);
        } finally {
          terminal.stop();
        }
        return '80x24 -> 101x33, 3 programs with whole screens, exit 7';
      },
    },
    {
      claim: 'exit codes and signals are those of the target',
      async check() {
        const lines = [
          'exit 0',
          'exit 1',
          'exit 77',
          'exit 255',
          'false',
          'no-such-program-here',
          'kill -TERM $$',
          'kill -9 $$',
        ];
        for (const line of lines) {
          const straight = await scene.run('ssh', [...direct, line]);
          const through = await scene.ssh(['open', line]);
          assert.equal(through.code, straight.code, line);
          assert.equal(through.stdout, straight.stdout, line);
        }
        return `${lines.length} equal to direct`;
      },
    },
    {
      claim: 'standard input, output and errors as pipes, with each end closed first',
      async check() {
        const bytes = randomBytes(3 << 20);
        const sum = createHash('sha256').update(bytes).digest('hex');
        assert.match((await scene.ssh(['open', 'sha256sum'], { input: bytes })).stdout, new RegExp(`^${sum} `));
        fs.writeFileSync(at('pipe-in'), bytes);
        await good('sh', ['-c', `${sshCommand()} open cat < ${at('pipe-in')} > ${at('pipe-out')}`]);
        assert.equal(digest(at('pipe-out')), sum);
        const both = await scene.ssh(['open', 'echo out; echo err >&2; cat; exit 5'], { input: 'in\n' });
        assert.deepEqual([both.code, both.stdout, both.stderr], [5, 'out\nin\n', 'err\n']);
        const early = await scene.ssh(['open', 'head -c 10'], { input: 'x'.repeat(1 << 20) });
        assert.equal(early.stdout, 'xxxxxxxxxx');
        const none = await scene.ssh(['-n', 'open', 'cat; echo end']);
        assert.equal(none.stdout, 'end\n');
        const yes = await good('sh', ['-c', `${sshCommand()} open yes | head -n 100000 | wc -l`]);
        assert.equal(yes.trim(), '100000');
        return `${bytes.length} bytes both ways, 5 ways to end`;
      },
    },
    {
      claim: `${MEGABYTES} MB by scp and sftp, both ways, arrive with equal digests`,
      async check() {
        const file = bigFile();
        const sum = digest(file);
        const figures: string[] = [];
        const timed = async (what: string, args: readonly string[], program = 'scp'): Promise<void> => {
          const started = performance.now();
          await good(program, ['-F', scene.config, '-o', `User=${scene.sshd.user}`, ...args], 1_200_000);
          figures.push(`${what} ${(MEGABYTES / ((performance.now() - started) / 1000)).toFixed(0)} MB/s`);
        };
        const landed = at('landed');
        const compare = (what: string): void => {
          assert.equal(digest(landed), sum, what);
          fs.rmSync(landed);
        };
        await timed('scp up', [file, `open:${landed}`]);
        compare('scp up');
        await timed('scp down', [`open:${file}`, landed]);
        compare('scp down');
        fs.writeFileSync(at('put'), `put ${file} ${landed}\n`);
        await timed('sftp up', ['-b', at('put'), 'open'], 'sftp');
        compare('sftp up');
        fs.writeFileSync(at('get'), `get ${file} ${landed}\n`);
        await timed('sftp down', ['-b', at('get'), 'open'], 'sftp');
        compare('sftp down');
        return figures.join(', ');
      },
    },
    {
      claim: 'scp by its old protocol, both ways and recursive',
      async check() {
        const tree = at('old-tree');
        fs.mkdirSync(path.join(tree, 'below'), { recursive: true });
        fs.writeFileSync(path.join(tree, 'a b'), randomBytes(100_000));
        fs.writeFileSync(path.join(tree, 'below', 'empty'), '');
        const scp = (...args: string[]) =>
          good('scp', ['-O', '-rp', '-F', scene.config, '-o', `User=${scene.sshd.user}`, ...args]);
        await scp(tree, `open:${at('old-up')}`);
        await scp(`open:${at('old-up')}`, at('old-down'));
        execFileSync('diff', ['-r', tree, at('old-down')]);
        return 'a tree of 2 files there and back';
      },
    },
    {
      claim: 'rsync and git',
      async check() {
        const tree = at('tree');
        for (let index = 0; index < 50; index += 1) {
          fs.mkdirSync(path.join(tree, `d${index % 7}`), { recursive: true });
          fs.writeFileSync(path.join(tree, `d${index % 7}`, `f${index}`), randomBytes(index * 1000));
        }
        await good('rsync', ['-a', '-e', sshCommand(), `${tree}/`, `open:${at('rsync-up')}/`]);
        fs.appendFileSync(path.join(tree, 'd3', 'f3'), 'more');
        await good('rsync', ['-a', '--delete', '-e', sshCommand(), `${tree}/`, `open:${at('rsync-up')}/`]);
        await good('rsync', ['-a', '-e', sshCommand(), `open:${at('rsync-up')}/`, `${at('rsync-down')}/`]);
        execFileSync('diff', ['-r', tree, at('rsync-down')]);
        const git = (...args: string[]) =>
          good('git', [
            '-c',
            'user.name=a',
            '-c',
            'user.email=a@b',
            '-c',
            'init.defaultBranch=main',
            '-c',
            `core.sshCommand=${sshCommand()}`,
            ...args,
          ]);
        await git('init', '-q', '--bare', at('bare.git'));
        await git('init', '-q', at('work'));
        fs.writeFileSync(path.join(at('work'), 'readme'), randomBytes(200_000));
        await git('-C', at('work'), 'add', '.');
        await git('-C', at('work'), 'commit', '-qm', 'first');
        await git('-C', at('work'), 'push', '-q', `open:${at('bare.git')}`, 'HEAD:main');
        await git('clone', '-q', '-b', 'main', `open:${at('bare.git')}`, at('clone'));
        assert.equal(digest(path.join(at('clone'), 'readme')), digest(path.join(at('work'), 'readme')));
        return '50 files synchronised three times; pushed and cloned';
      },
    },
    {
      claim: 'INV-09: one ControlMaster connection: a denial in the middle leaves the others as they are',
      async check() {
        const control = ['-o', 'ControlMaster=auto', '-o', 'ControlPersist=60', '-o', `ControlPath=${at('mux')}`];
        const first = await scene.ssh([...control, 'ruled', 'echo first']);
        assert.equal(first.stdout, 'first\n', first.stderr);
        const long = scene.ssh([...control, 'ruled', 'sleep 2']);
        for (let index = 0; index < 5; index += 1) {
          const denied = await scene.ssh([...control, 'ruled', 'id']);
          assert.equal(denied.code, 77, denied.stderr);
          assert.match(denied.stderr, /no-id/);
          const allowed = await scene.ssh([...control, 'ruled', `echo ${index}`]);
          assert.equal(allowed.stdout, `${index}\n`, allowed.stderr);
        }
        assert.equal((await long).code, 0);
        await scene.ssh([...control, '-O', 'exit', 'ruled']);
        return '7 commands, 5 denials, 1 connection';
      },
    },
    {
      claim: 'Ansible: ping and copy',
      async check() {
        fs.writeFileSync(
          at('inventory'),
          `open ansible_user=${scene.sshd.user} ansible_ssh_common_args='-F ${scene.config}' ansible_python_interpreter=/usr/bin/python3\n`,
        );
        fs.writeFileSync(at('to-copy'), 'by ansible\n');
        const ansible = (...args: string[]) => good(ansibleProgram(), ['-i', at('inventory'), 'open', ...args]);
        assert.match(await ansible('-m', 'ping'), /"ping": "pong"/);
        await ansible('-m', 'copy', '-a', `src=${at('to-copy')} dest=${at('copied')}`);
        assert.equal(fs.readFileSync(at('copied'), 'utf8'), 'by ansible\n');
        return `ping, copy (${spawnSync(ansibleProgram(), ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0]})`;
      },
    },
    {
      claim: `${SESSIONS} sessions at once`,
      async check() {
        // The command line that `dsn` prints: without a program of ours that each client starts.
        const { stdout: line } = await scene.local.cli(['dsn', 'open', '--user', scene.sshd.user], alice);
        const started = performance.now();
        const all = Array.from({ length: SESSIONS }, async (_, index) => {
          // A laptop's own limits are not the point: the clients come over two seconds.
          await new Promise((resolve) => setTimeout(resolve, index * 20));
          return await scene.run('sh', ['-c', `${line.trim()} 'sleep 3; echo ${index}'`], { timeoutMs: 180_000 });
        });
        for (const [index, { code, stdout, stderr }] of (await Promise.all(all)).entries()) {
          assert.deepEqual([code, stdout], [0, `${index}\n`], stderr);
        }
        return `all answered after ${((performance.now() - started) / 1000).toFixed(1)} s`;
      },
    },
    {
      claim: 'keepalives in an idle session; keys changed by the client under load',
      async check() {
        const idle = await scene.ssh([
          '-o',
          'ServerAliveInterval=1',
          '-o',
          'ServerAliveCountMax=1',
          'open',
          'sleep 6; echo alive',
        ]);
        assert.equal(idle.stdout, 'alive\n', idle.stderr);
        const sum = createHash('sha256')
          .update(Buffer.alloc(64 << 20))
          .digest('hex');
        const { stdout, code } = await scene.run('sh', [
          '-c',
          `head -c ${64 << 20} /dev/zero | ${sshCommand()} -o RekeyLimit=4M open 'tee /dev/stderr 2>/dev/null | sha256sum'`,
        ]);
        assert.equal(code, 0);
        assert.match(stdout, new RegExp(`^${sum} `));
        return '6 s idle; 64 MB with new keys each 4 MB';
      },
    },
  ],
  stop: async () => scene?.stop(),
};

// login, logout and whoami as people run them, against a real OpenID provider on TLS.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { type Idp, startIdp } from '../support/idp.ts';
import { SALLYPORT } from '../support/local.ts';

let idp: Idp;
let folder: string;
let home: string;

before(async () => {
  idp = await startIdp();
});
after(async () => {
  await idp?.stop();
});
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'login-'));
  home = path.join(folder, 'home');
});

interface Running {
  child: ChildProcess;
  out(): string;
  /** The first match in what it says. */
  says(pattern: RegExp, ms?: number): Promise<string>;
  done: Promise<number>;
}

function run(args: readonly string[], env: Record<string, string | undefined> = {}): Running {
  const child = spawn(SALLYPORT, args, {
    env: {
      ...process.env,
      SALLYPORT_HOME: home,
      SALLYPORT_STATE: path.join(folder, 'state'),
      SALLYPORT_TOKEN_STORE: 'file',
      NO_COLOR: '1',
      BROWSER: undefined,
      DISPLAY: undefined,
      WAYLAND_DISPLAY: undefined,
      SSH_CONNECTION: undefined,
      SSH_TTY: undefined,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (text += part));
  const done = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)));
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
  void done.then(() => clearTimeout(timer));
  return {
    child,
    out: () => text,
    done,
    async says(pattern, ms = 20_000) {
      const until = Date.now() + ms;
      for (;;) {
        const found = pattern.exec(text);
        if (found !== null) return found[1] ?? found[0];
        if (Date.now() > until || child.exitCode !== null) throw new Error(`it never said ${pattern}:\n${text}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
  };
}

const issuerFlags = (client = 'cli'): string[] => [
  '--issuer',
  idp.issuer,
  '--client-id',
  client,
  '--ca-file',
  idp.caFile,
  '--scope',
  'profile groups sallyport',
];

async function logIn(user: string, env: Record<string, string | undefined> = {}): Promise<Running> {
  const running = run(['login', '--no-browser', ...issuerFlags()], env);
  const url = await running.says(/^(https:\S+)$/m);
  const page = await fetch(await idp.authorize(url, user));
  assert.equal(page.status, 200, running.out());
  assert.match(await page.text(), /You can close this page/);
  assert.equal(await running.done, 0, running.out());
  return running;
}

interface StoredFile {
  tokens: {
    by: string;
    plain?: { access: string; refresh: string; id: string; expiresAtMs: number; obtainedAtMs: number };
  };
}
const loginFile = (): string => {
  const logins = path.join(home, 'logins');
  const name = fs.readdirSync(logins).find((each) => each.endsWith('.json'));
  assert.ok(name, 'there is no login');
  return path.join(logins, name);
};
const stored = (): StoredFile => JSON.parse(fs.readFileSync(loginFile(), 'utf8')) as StoredFile;

test('a login through the browser keeps tokens in a file that nobody else can read, and shows none', async () => {
  const running = await logIn('alice');
  assert.match(running.out(), /You are logged in at https:\/\/localhost:\d+ as alice\./);
  const { plain } = stored().tokens;
  assert.ok(plain);
  for (const secret of [plain.access, plain.refresh, plain.id]) {
    assert.ok(secret.length > 20);
    assert.ok(!running.out().includes(secret));
  }
  assert.equal(fs.statSync(loginFile()).mode & 0o777, 0o600);
  assert.equal(fs.statSync(path.join(home, 'logins')).mode & 0o777, 0o700);
  const who = run(['whoami', '-o', 'json']);
  assert.equal(await who.done, 0, who.out());
  const told = JSON.parse(who.out()) as {
    logins: { who: { username: string; groups: string[] }; renewable: boolean }[];
  };
  assert.deepEqual(told.logins[0]?.who.groups, ['app-team', 'staff']);
  assert.equal(told.logins[0]?.renewable, true);
  assert.ok(!who.out().includes(plain.access.slice(0, 60)));
});

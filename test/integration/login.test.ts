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

test('what opens the page is started with its address alone, and no process ever shows a token', async () => {
  const script = path.join(folder, 'browser');
  const seen = path.join(folder, 'url');
  fs.writeFileSync(script, `#!/bin/sh\nprintf %s "$1" > ${seen}.tmp && mv ${seen}.tmp ${seen}\n`, { mode: 0o755 });
  const running = run(['login', ...issuerFlags()], { BROWSER: script });
  await running.says(/Your browser asks you to log in/);
  const back = await idp.authorize(fs.readFileSync(seen, 'utf8'), 'bob');
  // Neither another path, nor another name for the address, nor a guessed state is answered; ours still is.
  const wrong = new URL(back);
  wrong.searchParams.set('state', 'guessed');
  assert.equal((await fetch(wrong)).status, 404);
  assert.equal((await fetch(new URL('/favicon.ico', back))).status, 404);
  const rebound = new URL(back);
  rebound.hostname = 'localhost';
  await assert.rejects(async () => assert.notEqual((await fetch(rebound)).status, 404));
  const shown = [procText(running.child.pid!)];
  assert.equal((await fetch(back)).status, 200);
  assert.equal(await running.done, 0, running.out());
  await assert.rejects(fetch(back), 'the listener is gone after one request');
  const { plain } = stored().tokens;
  for (const secret of [plain!.access, plain!.refresh, plain!.id]) {
    assert.ok(!shown.join('').includes(secret));
  }
});

test('a response that names another issuer is refused (RFC 9207), and nothing is kept', async () => {
  const running = run(['login', '--no-browser', ...issuerFlags()]);
  const back = await idp.authorize(await running.says(/^(https:\S+)$/m), 'alice');
  assert.ok(back.searchParams.has('iss'));
  back.searchParams.set('iss', 'https://evil.example');
  const page = await fetch(back);
  assert.equal(page.status, 400);
  assert.match(await page.text(), /The login failed/);
  assert.equal(await running.done, 1, running.out());
  assert.match(running.out(), /is not to be trusted/);
  assert.ok(!fs.existsSync(path.join(home, 'logins')));
});

test('who gives up ends the listener', async () => {
  const running = run(['login', '--no-browser', ...issuerFlags()]);
  await running.says(/^(https:\S+)$/m);
  running.child.kill('SIGINT');
  assert.equal(await running.done, 130, running.out());
});

test('the device flow goes by its own client', async () => {
  const running = run(['login', '--device', ...issuerFlags('cli-device')]);
  const url = await running.says(/or open (https:\S+)/);
  await idp.approveDevice(url, 'carol');
  assert.equal(await running.done, 0, running.out());
  assert.match(running.out(), /as carol/);
  assert.match(running.out(), /it never approves/);
  const { access } = stored().tokens.plain!;
  const claims = JSON.parse(Buffer.from(access.split('.')[1]!, 'base64url').toString('utf8')) as { client_id: string };
  assert.equal(claims.client_id, 'cli-device');
});

test('over ssh without a browser the hint is the device flow', async () => {
  const running = run(['login', ...issuerFlags()], { SSH_CONNECTION: '192.0.2.1 1 192.0.2.2 22' });
  assert.equal(await running.done, 78);
  assert.match(running.out(), /There is no browser here/);
  assert.match(running.out(), /hint: .*login --device/);
});

test('a wrong CA, a wrong issuer and http say what to do', async () => {
  const plain = run(['login', '--issuer', idp.issuer, '--client-id', 'cli', '--no-browser']);
  assert.equal(await plain.done, 78, plain.out());
  assert.match(plain.out(), /certificate .* can not be verified[\s\S]*--ca-file/);
  const slash = run([
    'login',
    '--no-browser',
    '--issuer',
    `${idp.issuer}/`,
    '--client-id',
    'cli',
    '--ca-file',
    idp.caFile,
  ]);
  assert.equal(await slash.done, 78, slash.out());
  assert.match(slash.out(), /exactly as it calls itself/);
  const http = run(['login', '--no-browser', '--issuer', 'http://127.0.0.1:1', '--client-id', 'cli']);
  assert.equal(await http.done, 78, http.out());
  const silent = run(['login', '--no-browser', '--issuer', 'https://127.0.0.1:18', '--client-id', 'cli']);
  assert.equal(await silent.done, 69, silent.out());
});

/** Makes the access token of the login look older than it is. */
function agePlain(change: (tokens: NonNullable<StoredFile['tokens']['plain']>) => void): void {
  const file = stored();
  change(file.tokens.plain!);
  fs.writeFileSync(loginFile(), JSON.stringify(file), { mode: 0o600 });
}

const REFRESHER = path.resolve(import.meta.dirname, '../support/refresh-login.ts');
/** A process of its own that wants a fresh token, and prints its SHA-256. */
function refresher(): Running {
  const child = spawn(process.execPath, [REFRESHER, home], {
    env: { ...process.env, SALLYPORT_TOKEN_STORE: 'file' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (text += part));
  return {
    child,
    out: () => text,
    says: () => Promise.reject(new Error('unused')),
    done: new Promise((resolve) => child.once('close', (code) => resolve(code ?? -1))),
  };
}

test('four processes that want a fresh token make one refresh, and all get the same', async () => {
  await logIn('alice');
  agePlain((tokens) => {
    tokens.expiresAtMs = Date.now() + 5_000;
    tokens.obtainedAtMs = Date.now() - 200_000;
  });
  const before = idp.grants.filter((each) => each === 'refresh_token').length;
  const racers = [refresher(), refresher(), refresher(), refresher()];
  const codes = await Promise.all(racers.map((each) => each.done));
  assert.deepEqual(codes, [0, 0, 0, 0], racers.map((each) => each.out()).join('\n'));
  assert.equal(new Set(racers.map((each) => each.out())).size, 1);
  assert.equal(idp.grants.filter((each) => each === 'refresh_token').length - before, 1);
  // And not again within the minute, whoever asks.
  const again = refresher();
  assert.equal(await again.done, 0);
  assert.equal(idp.grants.filter((each) => each === 'refresh_token').length - before, 1);
});

test('a process that dies in the middle of a refresh holds nobody up', async () => {
  await logIn('alice');
  agePlain((tokens) => {
    tokens.expiresAtMs = Date.now() + 5_000;
    tokens.obtainedAtMs = Date.now() - 200_000;
  });
  const lock = `${loginFile().replace(/\.json$/, '')}.lock`;
  const dead = spawn('true');
  await new Promise((resolve) => dead.once('close', resolve));
  fs.mkdirSync(lock, { recursive: true });
  fs.writeFileSync(
    path.join(lock, 'lock'),
    JSON.stringify({ pid: dead.pid, started: 'x', host: os.hostname(), nonce: 'n' }),
  );
  const next = refresher();
  assert.equal(await next.done, 0, next.out());
});

test('who was removed at the provider is told to log in again, and nothing is left here', async () => {
  await logIn('mallory');
  agePlain((tokens) => {
    tokens.expiresAtMs = Date.now() - 1_000;
    tokens.obtainedAtMs = Date.now() - 400_000;
  });
  idp.setUser('mallory', { disabled: true });
  try {
    const next = refresher();
    assert.equal(await next.done, 1, next.out());
    assert.match(next.out(), /was ended by the provider/);
    assert.deepEqual(
      fs.readdirSync(path.join(home, 'logins')).filter((each) => each.endsWith('.json')),
      [],
    );
  } finally {
    idp.setUser('mallory', { disabled: false });
  }
});

test('logout ends the login at the provider', async () => {
  await logIn('alice');
  const { refresh, access } = stored().tokens.plain!;
  const out = run(['logout']);
  assert.equal(await out.done, 0, out.out());
  assert.ok(!out.out().includes(access));
  assert.deepEqual(
    fs.readdirSync(path.join(home, 'logins')).filter((each) => each.endsWith('.json')),
    [],
  );
  await assert.rejects(idp.refresh(refresh), /invalid_grant/);
  const again = run(['logout']);
  assert.equal(await again.done, 0);
  assert.match(again.out(), /not logged in/);
});

test('a second login ends the first', async () => {
  await logIn('alice');
  const { refresh } = stored().tokens.plain!;
  await logIn('alice');
  await assert.rejects(idp.refresh(refresh), /invalid_grant/);
  await idp.refresh(stored().tokens.plain!.refresh);
});

test('a file that others can read is not used', async () => {
  await logIn('alice');
  fs.chmodSync(loginFile(), 0o644);
  const next = refresher();
  assert.equal(await next.done, 1, next.out());
  assert.match(next.out(), /counts as stolen/);
});

test('logins of another place are not shown, and not ended', async () => {
  await logIn('alice');
  const elsewhere = { SALLYPORT_STATE: path.join(folder, 'other') };
  const who = run(['whoami', '-o', 'json'], elsewhere);
  assert.equal(await who.done, 0);
  assert.deepEqual((JSON.parse(who.out()) as { logins: unknown[] }).logins, []);
  const out = run(['logout'], elsewhere);
  assert.equal(await out.done, 0);
  assert.ok(fs.existsSync(loginFile()));
});

test('with a keychain the tokens on disk are encrypted, and its key goes by stdin alone', async () => {
  const bin = path.join(folder, 'bin');
  const vault = path.join(folder, 'vault');
  const calls = path.join(folder, 'calls');
  fs.mkdirSync(bin);
  // Behaves as secret-tool(1) does: store reads stdin, lookup prints without a line break and exits with 1 for none.
  fs.writeFileSync(
    path.join(bin, 'secret-tool'),
    `#!/bin/sh
echo "$@" >> ${calls}
case $1 in
  store) cat > ${vault} ;;
  lookup) [ -f ${vault} ] || exit 1; cat ${vault} ;;
  clear) rm -f ${vault} ;;
esac
`,
    { mode: 0o755 },
  );
  const env = {
    SALLYPORT_TOKEN_STORE: undefined,
    DBUS_SESSION_BUS_ADDRESS: 'unix:path=/nowhere',
    PATH: `${bin}:${process.env['PATH']}`,
  };
  const running = await logIn('bob', env);
  assert.match(running.out(), /kept in the Secret Service/);
  const text = fs.readFileSync(loginFile(), 'utf8');
  assert.equal(stored().tokens.by, 'Keychain');
  assert.equal(stored().tokens.plain, undefined);
  assert.doesNotMatch(text, /eyJ/);
  const key = fs.readFileSync(vault, 'utf8');
  assert.match(key, /^[0-9a-f]{64}$/);
  assert.ok(!fs.readFileSync(calls, 'utf8').includes(key));
  const who = run(['whoami'], env);
  assert.equal(await who.done, 0);
  assert.match(who.out(), /renewed when it is used/);
  // A keychain that stays locked: the login is known, its tokens are not.
  const locked = run(['whoami'], { ...env, SALLYPORT_TOKEN_STORE: 'file' });
  assert.equal(await locked.done, 0);
  assert.match(locked.out(), /does not give the key/);
  const out = run(['logout'], env);
  assert.equal(await out.done, 0, out.out());
  assert.ok(!fs.existsSync(vault), 'the key goes with the last login');
});

/** Arguments and environment of a process and its children, as anybody on the machine may read the first of them. */
function procText(pid: number): string {
  const read = (file: string): string => {
    try {
      return fs.readFileSync(file, 'latin1');
    } catch {
      return '';
    }
  };
  const children = read(`/proc/${pid}/task/${pid}/children`).trim().split(' ').filter(Boolean).map(Number);
  return [read(`/proc/${pid}/cmdline`), read(`/proc/${pid}/environ`), ...children.map(procText)].join('\n');
}

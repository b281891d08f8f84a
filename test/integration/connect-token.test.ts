// connect by the token of a login: a real daemon, a real PostgreSQL, a real OpenID provider, real psql.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { type Idp, startIdp } from '../support/idp.ts';
import { type CliResult, type Local, SALLYPORT } from '../support/local.ts';
import { type Orders, startOrders } from '../support/orders.ts';
import { CLI_LOGIN, PEOPLE, providerYaml } from '../support/provider-yaml.ts';

const PASSWORD = 'reader-secret-5be1';
/** The person at the machine where grants are asked for. */
const desk = { as: 'alice', groups: ['corp:app-team'] };
let idp: Idp;
let orders: Orders;
let local: Local;
/** Another machine of the same person: logged in, and without the keys of grants. */
let laptop: Record<string, string>;

const PROVIDER = (): string =>
  providerYaml(
    'corp',
    idp,
    `audiences: [{audience: ${idp.audience}, use: Access, clients: [cli, cli-device]}]
${PEOPLE}
${CLI_LOGIN}`,
  );
const policy = (session: string): string => `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: readers, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects: [{kind: Group, name: "corp:app-team"}]
  accounts: [reader]
  access: Grant
  maxDuration: 4h
  session: ${session}
  rules:
  - {name: read-only, preset: ReadOnly}
`;

before(async () => {
  idp = await startIdp({ accessTokenSeconds: 300 });
  orders = await startOrders({
    account: 'reader',
    role: 'orders_reader',
    password: PASSWORD,
    setup: 'grant select on orders to orders_reader;',
    files: { 'provider.yaml': PROVIDER(), 'policy.yaml': policy('{}') },
  });
  ({ local } = orders);
  laptop = {
    SALLYPORT_HOME: path.join(local.home, '../laptop'),
    SALLYPORT_TOKEN_STORE: 'file',
    XDG_RUNTIME_DIR: '',
    SALLYPORT_AS: 'alice',
  };
});
after(async () => {
  await orders?.stop();
  await idp?.stop();
});

const shown = (result: CliResult): string => `${result.code}\n${result.stdout}\n${result.stderr}\n${local.output()}`;
const expectCode = (result: CliResult, code: number): CliResult => {
  assert.equal(result.code, code, shown(result));
  return result;
};

async function logIn(user: string): Promise<void> {
  const child = spawn(SALLYPORT, ['login', '--no-browser'], {
    env: local.environment({ env: laptop }),
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  const url = await new Promise<string>((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      text += part;
      const found = /^(https:\S+)$/m.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once('close', (code) => reject(new Error(`login ended with ${code}\n${text}`)));
  });
  const done = new Promise<number | null>((resolve) => child.once('close', resolve));
  assert.equal((await fetch(await idp.authorize(url, user))).status, 200);
  assert.equal(await done, 0, text);
}

const loginFile = (): string => {
  const logins = path.join(laptop['SALLYPORT_HOME']!, 'logins');
  return path.join(logins, fs.readdirSync(logins).find((each) => each.endsWith('.json'))!);
};
const access = (): string =>
  (JSON.parse(fs.readFileSync(loginFile(), 'utf8')) as { tokens: { plain: { access: string } } }).tokens.plain.access;

test('login goes where the IdentityProvider says, and the name is as policies spell it', async () => {
  await logIn('alice');
  const who = expectCode(await local.cli(['whoami'], { env: laptop }), 0);
  assert.match(who.stdout, /As\s+corp:alice/);
  assert.match(who.stdout, /Groups\s+corp:app-team, corp:staff/);
});

test('psql gets the token by a file; it is in no argument and no environment', async () => {
  // Asked for on another machine, whose key is not here.
  expectCode(await local.cli(['request', 'orders-db', '--reason', 'INC-1', '--wait'], desk), 0);
  const script = path.join(local.home, 'show.sh');
  fs.mkdirSync(local.home, { recursive: true });
  fs.writeFileSync(
    script,
    '#!/bin/sh\ntr "\\0" "\\n" < /proc/$$/environ\ntr "\\0" " " < /proc/$PPID/cmdline\ntr "\\0" "\\n" < /proc/$PPID/environ\nstat -c %a "$PGPASSFILE"\npsql -XAt -c "select count(*) from orders"\n',
    { mode: 0o755 },
  );
  const ran = expectCode(await local.cli(['connect', 'orders-db', '--', script], { env: laptop }), 0);
  assert.match(ran.stdout, /\n600\n20\n$/);
  assert.match(ran.stdout, /^PGUSER=reader\+orders-db-/m);
  assert.ok(!ran.output.includes(access()));
  assert.doesNotMatch(ran.output, /PGPASSWORD=./);
  assert.deepEqual(fs.readdirSync(path.join(laptop['SALLYPORT_HOME']!, 'run')), []);
});

test('--listen logs each socket in by a token that is fresh then', async () => {
  const child = spawn(SALLYPORT, ['connect', 'orders-db', '--listen', '--token'], {
    env: local.environment({ env: laptop }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  try {
    const uri = await new Promise<string>((resolve, reject) => {
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (part: string) => {
        text += part;
        const found = /postgresql:\S+/.exec(text)?.[0];
        if (found !== undefined) resolve(found);
      });
      child.stderr.setEncoding('utf8').on('data', (part: string) => (text += part));
      child.once('close', () => reject(new Error(text)));
    });
    assert.ok(!uri.includes('eyJ'));
    const client = new pg.Client({ connectionString: uri });
    await client.connect();
    assert.equal((await client.query('select count(*)::int n from orders')).rows[0].n, 20);
    await client.end();
  } finally {
    child.kill('SIGINT');
    await new Promise((resolve) => child.once('close', resolve));
  }
});

test('a token is not printed; dsn --oauth holds none', async () => {
  const refused = expectCode(await local.cli(['dsn', 'orders-db'], { env: laptop }), 78);
  assert.match(refused.stderr, /is not printed/);
  const dsn = expectCode(await local.cli(['dsn', 'orders-db', '--oauth'], { env: laptop }), 0).stdout.trim();
  const url = new URL(dsn);
  assert.equal(decodeURIComponent(url.username), 'reader+oauth');
  assert.equal(url.password, '');
  assert.equal(url.searchParams.get('oauth_issuer'), idp.issuer);
  assert.equal(url.searchParams.get('oauth_client_id'), 'cli-device');
  assert.equal(url.searchParams.get('require_auth'), 'oauth');
  assert.equal(url.searchParams.get('sslmode'), 'verify-full');
});

test('who is not logged in is told how; who has no grant by it, too', async () => {
  const nobody = { ...laptop, SALLYPORT_HOME: path.join(local.home, '../nobody') };
  const out = expectCode(await local.cli(['connect', 'orders-db', '--token'], { env: nobody }), 77);
  assert.match(out.stderr, /not logged in[\s\S]*sallyport login/);
  await logIn('bob');
  const none = expectCode(await local.cli(['connect', 'orders-db', '--token'], { env: laptop }), 77);
  assert.match(none.stderr, /corp:bob has no grant/);
  await logIn('alice');
});

/** The login as it would be some minutes later: with a token that may be renewed. */
function ageLogin(): void {
  const file = JSON.parse(fs.readFileSync(loginFile(), 'utf8')) as { tokens: { plain: { obtainedAtMs: number } } };
  file.tokens.plain.obtainedAtMs -= 130_000;
  fs.writeFileSync(loginFile(), JSON.stringify(file), { mode: 0o600 });
}

interface Psql {
  send(text: string): void;
  says(pattern: RegExp): Promise<string>;
  end(): Promise<number>;
}
function openPsql(...options: string[]): Psql {
  const child = spawn(SALLYPORT, ['connect', 'orders-db', ...options, '--', 'psql', '-XAt'], {
    env: local.environment({ env: laptop }),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (text += part));
  const done = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)));
  const timer = setTimeout(() => child.stdin.end(), 90_000);
  void done.then(() => clearTimeout(timer));
  return {
    send: (line) => void child.stdin.write(`${line}\n`),
    async says(pattern) {
      const until = Date.now() + 30_000;
      for (;;) {
        const found = pattern.exec(text);
        if (found !== null) return found[0];
        if (Date.now() > until) throw new Error(`it never said ${pattern}\n${text}\n${local.output()}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    end() {
      child.stdin.end();
      return done;
    },
  };
}

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const end = Date.now() + 30_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}\n${local.output()}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

test('INV-03: while connect lives it proves the session again; without the group the next token ends it', async () => {
  local.write('policy.yaml', policy('{reauthenticate: 2m}'));
  await logIn('alice');
  expectCode(await local.cli(['request', 'orders-db', '--reason', 'INC-2', '--wait'], desk), 0);
  await new Promise((resolve) => setTimeout(resolve, 1_100)); // `iat` has whole seconds
  ageLogin();
  const before = access();
  const first = openPsql();
  first.send('select count(*) from orders;');
  await first.says(/^20$/m);
  await until('a newer token', () => Promise.resolve(access() === before ? undefined : true));
  const [session] = (await local.json<{ items: { id: string }[] }>(['sessions'])).items;
  assert.ok(session);
  await until('the renewal on record', async () => {
    const shown = await local.cli(['records', 'show', session.id]);
    return shown.stdout.includes('TokenRenewed') ? true : undefined;
  });
  first.send("select 'still ' || 'here';");
  await first.says(/still here/);
  assert.equal(await first.end(), 0);

  await new Promise((resolve) => setTimeout(resolve, 1_100));
  ageLogin();
  idp.removeFromGroup('alice', 'app-team');
  try {
    const second = openPsql();
    second.send('select count(*) from orders;');
    await second.says(/^20$/m);
    await until('the cut', async () => {
      const { items } = await local.json<{ items: unknown[] }>(['sessions']);
      return items.length === 0 ? true : undefined;
    });
    second.send('select 1;');
    await second.says(/does not name (corp:)?alice or a group of theirs any more/);
    await second.end();
  } finally {
    idp.setUser('alice', { groups: ['app-team', 'staff'] });
  }
});

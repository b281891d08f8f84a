// SSH as people use it, in local mode: a directory of YAML, a real daemon, their own OpenSSH client, a real sshd.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type CliResult, type Local, SALLYPORT, startLocal } from '../../support/local.ts';
import { sshSecretYaml } from '../../support/ssh-scene.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';

const alice = { as: 'alice@corp.example', groups: ['ops'] };
const bob = { as: 'bob@corp.example', groups: ['ops'] };

let sshd: Sshd;
let local: Local;
/** Where `ssh` finds `sallyport`. */
let bin: string;

const connection = (name: string, accounts: string, target = sshd): string => `apiVersion: sallyport.dev/v1alpha1
kind: Connection
metadata: {name: ${name}, namespace: payments}
spec:
  type: SSH
  ssh: {host: 127.0.0.1, port: ${target.port}, hostKeys: ['${target.hostKey}']}
  accounts: ${accounts}
`;

const POLICY = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ops, namespace: payments}
spec:
  connectionSelector: {names: [web1, web2]}
  subjects: [{kind: Group, name: ops}]
  accounts: [deploy]
  maxDuration: 4h
  rules:
  - {name: basics, action: Allow, ssh: {commands: ['true', 'echo **', 'sleep *']}}
  - {name: no-root, action: Deny, ssh: {commands: ['id **']}, message: Nobody asks who root is.}
`;

const secret = (): string => sshSecretYaml('web1-deploy', sshd);

async function get<T>(kind: string, name: string): Promise<T> {
  const { items: all } = await local.json<{ items: { metadata: { name: string } }[] }>(['ls', '-A'], alice);
  assert.equal(kind, 'Connection');
  return all.find((each) => each.metadata.name === name) as T;
}

interface Seen {
  metadata: { uid: string };
  status?: {
    endpoint?: { port: number };
    conditions?: { type: string; status: string; message: string }[];
    ssh?: { userAuthority?: string; knownHosts?: string[] };
  };
}

before(async () => {
  sshd = await startSshd();
  local = await startLocal({
    'web1.yaml': connection('web1', '[{name: deploy, secretRef: {name: web1-deploy}}]'),
    'secret.yaml': secret(),
    'policy.yaml': POLICY,
  });
  bin = fs.mkdtempSync(path.join(path.dirname(local.state), 'bin-'));
  fs.symlinkSync(SALLYPORT, path.join(bin, 'sallyport'));
});
after(async () => {
  await local?.stop();
  await sshd?.stop();
});

const connect = (name: string, who = alice, ...args: string[]): Promise<CliResult> =>
  local.cli(['connect', name, '--user', sshd.user, '--', ...args], who);

/** Runs a program that finds `sallyport` on its PATH. */
function run(program: string, args: readonly string[], who = alice): Promise<CliResult> {
  const env = local.environment({
    env: {
      PATH: `${bin}:${process.env['PATH']}`,
      SALLYPORT_AS: who.as,
      SALLYPORT_GROUPS: who.groups.join(','),
    },
  });
  return new Promise((resolve) => {
    const child = execFile(program, args, { env, timeout: 30_000 }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr, output: stdout + stderr }),
    );
    child.stdin?.end();
  });
}

test('a Connection of type SSH is Ready, and publishes its keys without a secret', async () => {
  let seen: Seen | undefined;
  for (let round = 0; round < 50; round += 1) {
    seen = await get<Seen>('Connection', 'web1');
    if (seen.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true) break;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const ready = seen?.status?.conditions?.find(({ type }) => type === 'Ready');
  assert.equal(ready?.status, 'True', ready?.message);
  assert.match(ready?.message ?? '', /^The target answers \(OpenSSH/);
  const { port } = seen!.status!.endpoint!;
  assert.match(seen!.status!.ssh?.userAuthority ?? '', /^ssh-ed25519 /);
  const [authority, ...plain] = seen!.status!.ssh?.knownHosts ?? [];
  const names = `web1.payments.sallyport,[localhost]:${port},[127.0.0.1]:${port}`;
  assert.ok(authority?.startsWith(`@cert-authority ${names} ssh-ed25519 `), authority);
  assert.equal(plain.length, 2);
  for (const line of plain) assert.ok(line.startsWith(`${names} `), line);
});

test('INV-01: without a grant nobody gets in, and is told how to ask', async () => {
  const { code, stderr } = await connect('web1', alice, 'true');
  assert.equal(code, 77, stderr);
  assert.match(stderr, /alice@corp\.example has no grant for payments\/web1\nhint: .*sallyport request web1/);
});

test('request, connect, run; what the policy does not allow is refused, and the client goes on', async () => {
  const asked = await local.cli(['request', 'web1', '--for', '1h', '--reason', 'INC-1', '--wait'], alice);
  assert.equal(asked.code, 0, asked.stderr);
  const done = await connect('web1', alice, 'true');
  assert.equal(done.code, 0, done.stderr);
  const echoed = await connect('web1', alice, 'echo', 'good', 'morning');
  assert.equal(echoed.stdout, 'good morning\n', echoed.stderr);
  const denied = await connect('web1', alice, 'id');
  assert.equal(denied.code, 77, denied.stderr);
  assert.match(denied.stderr, /Sallyport refused .*policy payments\/ops, rule "no-root".*Nothing reached the target/s);
  assert.doesNotMatch(sshd.log(), /session.*command.* id$/m);
  const other = await connect('web1', bob, 'true');
  assert.equal(other.code, 77, 'another person has no grant');
});

test('the wrong user of the target is refused with the right one named', async () => {
  const { code, stderr } = await local.cli(['connect', 'web1', '--user', 'nobody-here', '--', 'true'], alice);
  assert.equal(code, 255);
  assert.match(stderr, new RegExp(`\\b${sshd.user}\\b`));
});

test('dsn prints the command line, which works as it stands', async () => {
  const { code, stdout, stderr } = await local.cli(['dsn', 'web1', '--user', sshd.user], alice);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^ssh -o HostKeyAlias=web1\.payments\.sallyport -o UserKnownHostsFile=/);
  const ran = await run('sh', ['-c', `${stdout.trim()} echo by hand`]);
  assert.equal(ran.stdout, 'by hand\n', ran.stderr);
});

test('a ticket is typed where the client asks for it, and opens one login', async () => {
  const { code, stdout, stderr } = await local.cli(['dsn', 'web1', '--user', sshd.user, '--ticket'], alice);
  assert.equal(code, 0, stderr);
  const { metadata, status } = await get<Seen>('Connection', 'web1');
  const askpass = path.join(bin, 'askpass');
  fs.writeFileSync(askpass, `#!/bin/sh\necho '${stdout.trim()}'\n`, { mode: 0o700 });
  const login = (): Promise<CliResult> =>
    run('env', [
      `SSH_ASKPASS=${askpass}`,
      'SSH_ASKPASS_REQUIRE=force',
      'ssh',
      '-F',
      '/dev/null',
      '-o',
      'PubkeyAuthentication=no',
      '-o',
      `UserKnownHostsFile=${path.join(local.home, 'ssh', metadata.uid, 'known_hosts')}`,
      '-o',
      'StrictHostKeyChecking=yes',
      '-o',
      'NumberOfPasswordPrompts=1',
      '-p',
      String(status!.endpoint!.port),
      '-l',
      sshd.user,
      '127.0.0.1',
      'echo',
      'typed',
    ]);
  const first = await login();
  assert.equal(first.stdout, 'typed\n', first.stderr);
  const second = await login();
  assert.equal(second.code, 255, 'INV-01: not a second time');
});

test('ssh-config lets plain ssh, and what is built on it, in by name', async () => {
  const written = await local.cli(['ssh-config', '--write'], alice);
  assert.equal(written.code, 0, written.stderr);
  const config = written.stdout.trim();
  assert.match(written.stderr, /Include/);
  const text = fs.readFileSync(config, 'utf8');
  assert.match(text, /^Match originalhost web1,web1\.payments\.sallyport exec /m);
  assert.doesNotMatch(text, /StrictHostKeyChecking (no|off|accept-new)/);
  for (const name of ['web1', 'web1.payments.sallyport']) {
    const ran = await run('ssh', ['-F', config, '-l', sshd.user, name, 'echo', name]);
    assert.equal(ran.stdout, `${name}\n`, ran.stderr);
  }
  const master = path.join(path.dirname(local.state), 'mux');
  const multiplexed = ['-F', config, '-l', sshd.user, '-o', 'ControlMaster=auto', '-o', `ControlPath=${master}`];
  const first = spawn('ssh', [...multiplexed, '-N', 'web1'], {
    env: local.environment({
      env: { PATH: `${bin}:${process.env['PATH']}`, SALLYPORT_AS: alice.as, SALLYPORT_GROUPS: 'ops' },
    }),
    stdio: 'ignore',
  });
  try {
    for (let round = 0; round < 100 && !fs.existsSync(master); round += 1)
      await new Promise((go) => setTimeout(go, 50));
    const denied = await run('ssh', [...multiplexed, 'web1', 'id']);
    assert.equal(denied.code, 77, denied.stderr);
    const allowed = await run('ssh', [...multiplexed, 'web1', 'echo', 'still']);
    assert.equal(allowed.stdout, 'still\n', 'INV-09: a denial leaves the connection usable');
  } finally {
    first.kill();
  }
});

test('INV-05: neither key of anybody is in a status, the daemon’s output or the records', async () => {
  const body = sshd.privateKey.split('\n')[2]!;
  const seen = JSON.stringify(await get('Connection', 'web1'));
  assert.ok(!seen.includes(body));
  assert.ok(!local.output().includes(body));
  const records = path.join(local.state, 'records');
  for (const entry of fs.readdirSync(records, { recursive: true, encoding: 'utf8' })) {
    const file = path.join(records, entry);
    if (fs.statSync(file).isFile()) assert.ok(!fs.readFileSync(file, 'latin1').includes(body), file);
  }
});

test('INV-03: a session ends when it is killed, with a line that says so', async () => {
  const running = connect('web1', alice, 'sleep', '60');
  let id = '';
  for (let round = 0; round < 100 && id === ''; round += 1) {
    const { items: sessions } = await local.json<{ items: { id: string; principal?: { username: string } }[] }>(
      ['sessions'],
      alice,
    );
    id = sessions.find(({ principal }) => principal?.username === alice.as)?.id ?? '';
    if (id === '') await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.notEqual(id, '');
  const killed = await local.cli(['kill', id], bob);
  assert.equal(killed.code, 0, killed.stderr);
  const { code, stderr } = await running;
  assert.notEqual(code, 0);
  assert.match(stderr, /was ended by bob@corp\.example/);
});

test('a certificate account: the target trusts the published authority, and no Secret is needed', async (t) => {
  local.write('web2.yaml', connection('web2', `[{name: deploy, certificate: {users: [${sshd.user}]}}]`));
  let authority = '';
  for (let round = 0; round < 100 && authority === ''; round += 1) {
    const seen = await get<Seen | undefined>('Connection', 'web2');
    authority = seen?.status?.ssh?.userAuthority ?? '';
    if (authority === '') await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const trusting = await startSshd({ userAuthority: authority });
  t.after(() => trusting.stop());
  local.write('web2.yaml', connection('web2', `[{name: deploy, certificate: {users: [${sshd.user}]}}]`, trusting));
  const asked = await local.cli(['request', 'web2', '--for', '1h', '--reason', 'INC-2', '--wait'], alice);
  assert.equal(asked.code, 0, asked.stderr);
  let ran: CliResult | undefined;
  for (let round = 0; round < 20; round += 1) {
    ran = await local.cli(['connect', 'web2', '--', 'echo', 'certified'], alice);
    if (ran.code === 0) break;
  }
  assert.equal(ran?.stdout, 'certified\n', ran?.stderr);
  assert.match(
    trusting.log(),
    /Accepted publickey for \S+ .* ID sallyport session=s-\S+ grant=\S+ user=alice@corp\.example/,
  );
});

test('a certificate of an authority that an IdentityProvider lists opens its person’s grant, whoever’s key it is for', async () => {
  const folder = path.dirname(local.state);
  const keygen = (...args: string[]) => run('ssh-keygen', ['-q', ...args]);
  const at = (name: string): string => path.join(folder, name);
  for (const name of ['ca', 'other-ca', 'person'])
    assert.equal((await keygen('-t', 'ed25519', '-N', '', '-C', '', '-f', at(name))).code, 0);
  local.write(
    'idp.yaml',
    `apiVersion: sallyport.dev/v1alpha1
kind: IdentityProvider
metadata: {name: corp}
spec:
  issuer: https://id.invalid
  audiences: [{audience: sallyport, use: Access, clients: [cli]}]
  prefix: {username: 'corp:', groups: 'corp:'}
  ssh: {userAuthorities: ['${fs.readFileSync(at('ca.pub'), 'utf8').trim()}']}
`,
  );
  // Asked for from another machine: its key is not the person's.
  const carla = { as: 'corp:carla', groups: ['ops'] };
  const asked = await local.cli(['request', 'web1', '--for', '1h', '--reason', 'INC-3', '--wait'], carla);
  assert.equal(asked.code, 0, asked.stderr);
  const { uid } = (await get<Seen>('Connection', 'web1')).metadata;
  const { port } = (await get<Seen>('Connection', 'web1')).status!.endpoint!;
  const login = async (authority: string, principals: string): Promise<CliResult> => {
    const made = await keygen(
      '-s',
      at(authority),
      '-I',
      'carla@laptop',
      '-n',
      principals,
      '-V',
      '-5m:+10m',
      at('person.pub'),
    );
    assert.equal(made.code, 0, made.stderr);
    return run('ssh', [
      '-F',
      '/dev/null',
      '-o',
      'IdentitiesOnly=yes',
      '-o',
      'BatchMode=yes',
      '-o',
      'StrictHostKeyChecking=yes',
      '-o',
      `UserKnownHostsFile=${path.join(local.home, 'ssh', uid, 'known_hosts')}`,
      '-o',
      'HostKeyAlias=web1.payments.sallyport',
      '-i',
      at('person'),
      '-o',
      `CertificateFile=${at('person-cert.pub')}`,
      '-p',
      String(port),
      '-l',
      sshd.user,
      'localhost',
      'echo',
      'certified',
    ]);
  };
  let ran = await login('ca', 'carla');
  for (let round = 0; round < 20 && ran.code !== 0; round += 1) ran = await login('ca', 'carla');
  assert.equal(ran.stdout, 'certified\n', ran.stderr);
  for (const [authority, principals] of [
    ['other-ca', 'carla'],
    ['ca', 'dora'],
    ['ca', 'corp:carla'],
  ] as const) {
    const refused = await login(authority, principals);
    assert.equal(refused.code, 255, `${authority} ${principals}: ${refused.stdout}`);
  }
});

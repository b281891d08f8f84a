// SSH end to end on a whole cluster: machines in pods, one of which trusts the Connection's authority and nothing else;
// people on laptops who come through the API server, and one in a pod who comes through the Service.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { specHash } from '../../../src/api/canonical.ts';
import type { Connection } from '../../../src/api/connection.ts';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import type { CommandHold } from '../../../src/api/hold.ts';
import { tokenAccess } from '../../../src/kube/access.ts';
import { createKubeClient } from '../../../src/kube/client.ts';
import { percentile } from '../../bench/statistics.ts';
import { type Machines, startMachines, webConnection } from '../../e2e/machines.ts';
import { processesOf } from '../../e2e/pods.ts';
import { claimOf, readRecords, trustedRoot, verifyRecords } from '../../e2e/records.ts';
import { KUBECTL_ACCESS, NAMESPACE, type Ran, RELEASE, type Scene, say, succeeded } from '../../e2e/scene.ts';
import { ok } from '../../support/cluster/sallyport.ts';
import { exampleObjects } from '../../support/gitops.ts';
import { startTerminal } from '../../support/terminal.ts';
import { openScreen } from '../../support/terminal-screen.ts';
import { tools } from '../../support/tools.ts';
import { type CriteriaGroup, trials } from '../criterion.ts';

const APPROVALS = `/apis/sallyport.dev/v1alpha1/namespaces/${NAMESPACE}/accessapprovals`;

let machines: Machines;
let scene: Scene;
/** For `ssh -F`, as alice has it. */
let config = '';
/** What people saw, to look for secrets in. */
let seen = '';
let shellLines: string[] = [];

const keep = (ran: Ran): Ran => {
  seen += ran.stdout + ran.stderr;
  return ran;
};
const good = (ran: Ran, what: string): Ran => succeeded(keep(ran), what);
const connect = async (name: string, ...command: string[]): Promise<Ran> =>
  keep(await scene.access('alice', ['connect', name, '--', ...command]));

/** Asked for by alice, approved by carol. */
async function grant(connection: string, duration = '1h', more: readonly string[] = []): Promise<string> {
  const asked = await scene.requested('alice', connection, ['--for', duration, ...more]);
  good(await scene.access('carol', ['approve', asked.name, '--yes']), 'approve');
  good(await asked.done, 'request --wait');
  return asked.name;
}

/** A program of alice's laptop. */
function start(program: string, args: readonly string[]): ChildProcess {
  return spawn(program, [...args], { env: scene.environment('alice'), cwd: scene.folder });
}

async function laptop(program: string, args: readonly string[], input = ''): Promise<Ran> {
  const child = start(program, args);
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (part: Buffer) => (stdout += part.toString()));
  child.stderr?.on('data', (part: Buffer) => (stderr += part.toString()));
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(input);
  const timer = setTimeout(() => child.kill('SIGKILL'), 120_000);
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve(status ?? -1));
  });
  clearTimeout(timer);
  return keep({ code, stdout, stderr });
}

async function podOf(app: string): Promise<{ name: string; uid: string }> {
  const { items } = await scene.read<{ items: { metadata: { name: string; uid: string } }[] }>(
    'pods',
    '-l',
    `app=${app}`,
  );
  return items[0]!.metadata;
}
const inMachine = (name: string, script: string): Promise<string> =>
  scene.inNamespace('exec', `deployment/${name}`, '--', 'sh', '-c', script);
const statusOf = async (name: string): Promise<NonNullable<Connection['status']>> =>
  (await scene.read<Connection>('connection', name)).status!;
const conditionOf = async (name: string, type = 'Ready') =>
  (await statusOf(name)).conditions?.find((each) => each.type === type);

/** Starts a client and waits until its programs run in the pod, which are those with `word` in their command line. */
async function running(args: readonly string[], word: string, how: (child: ChildProcess) => void = () => undefined) {
  const pod = await podOf('web1');
  const child = start(KUBECTL_ACCESS, ['-n', NAMESPACE, 'connect', 'web1', ...args]);
  let told = '';
  child.stdout?.on('data', (part: Buffer) => (told += part.toString()));
  child.stderr?.on('data', (part: Buffer) => (told += part.toString()));
  const closed = new Promise<number>((resolve) => child.once('close', () => resolve(performance.now())));
  how(child);
  const pids = (): number[] => processesOf(pod.uid, word);
  await scene.until(`${word} in the pod: ${told}`, async () => (pids().length > 0 ? true : undefined));
  return {
    closed,
    told: () => told,
    async gone(): Promise<number> {
      const deadline = Date.now() + 15_000;
      while (pids().length > 0) {
        assert.ok(Date.now() < deadline, `still in the pod: ${pids().length} of ${word}`);
        await pause(5);
      }
      return performance.now();
    },
  };
}

/** Carol's word straight to the API server; when it was accepted, by performance.now. */
async function revoke(name: string): Promise<number> {
  const { server, ca } = scene.cluster;
  const client = createKubeClient(tokenAccess(server, scene.cluster.tokenOf('carol'), ca));
  try {
    const { metadata, spec } = await scene.read<AccessGrant>('accessgrant', name);
    ok(
      await client.create<AccessApproval>(APPROVALS, {
        apiVersion: 'sallyport.dev/v1alpha1',
        kind: 'AccessApproval',
        metadata: { generateName: `${name}-` },
        spec: {
          targetRef: { kind: 'AccessGrant', name, uid: metadata.uid },
          specHash: specHash(spec),
          decision: 'Revoke',
          reason: 'enough',
        },
      }),
    );
    return performance.now();
  } finally {
    await client.close();
  }
}

/** An inventory's line for Ansible. */
const inventory = (host: string, user: string): string =>
  `${host} ansible_user=${user} ansible_ssh_common_args='-F ${config}' ansible_python_interpreter=/usr/bin/python3\n`;

export const cluster: CriteriaGroup = {
  name: 'cluster',
  async start() {
    machines = await startMachines(say);
    scene = machines.scene;
  },
  stop: async () => machines?.scene.stop(),
  criteria: [
    {
      claim: 'a machine that took one line from the Connection’s status is logged in to; nothing else opens it',
      async check() {
        await scene.ready('web1');
        await scene.ready('old1');
        const config = await inMachine('web1', 'cat /config/sshd_config; ls /config');
        assert.match(config, /AuthorizedKeysFile none\nPasswordAuthentication no/);
        const authority = (await statusOf('web1')).ssh?.userAuthority;
        assert.equal(await inMachine('web1', 'cat /config/authorities'), `${authority}\n`);
        return `chart ${(scene.installMs / 1000).toFixed(1)} s; ${(await conditionOf('web1'))?.message}`;
      },
    },
    {
      claim:
        'a shell by `kubectl access connect`, through the API server: approved, resized, with the target’s exit code',
      async check() {
        const early = await connect('web1', 'id');
        assert.notEqual(early.code, 0, 'without a grant');
        const name = await grant('web1');
        const env = scene.environment('alice') as Record<string, string>;
        const terminal = startTerminal(`${KUBECTL_ACCESS} -n ${NAMESPACE} connect web1`, { env });
        try {
          await terminal.waitFor(/deploy|\$/, 30_000);
          terminal.type(`PS1='ready> '; clear`);
          terminal.press('Enter');
          await terminal.waitFor(/^ready>$/m);
          terminal.resize(101, 33);
          terminal.type('whoami; stty size 2>/dev/null; tty; echo zażółć');
          terminal.press('Enter');
          shellLines = await terminal.waitFor(/^zażółć$/m);
          assert.match(shellLines.join('\n'), /^deploy$/m);
          terminal.type('exit 7');
          terminal.press('Enter');
          await terminal.waitFor(/Pane is dead \(status 7/);
        } finally {
          terminal.stop();
        }
        return `grant ${name}; whoami: deploy; exit 7`;
      },
    },
    {
      claim: 'INV-09: commands keep their streams and exit codes; a denied one never runs and leaves a master usable',
      async check() {
        const said = good(await connect('web1', 'echo', 'over', 'the', 'tunnel'), 'echo');
        assert.equal(said.stdout, 'over the tunnel\n');
        assert.equal((await connect('web1', 'exit', '3')).code, 3);
        const piped = await scene.access('alice', ['connect', 'web1', '--', 'cat'], { input: 'to stdin\n' });
        assert.equal(piped.stdout, 'to stdin\n', piped.stderr);
        const denied = await connect('web1', 'rm', '-rf', '/home/deploy/x');
        assert.equal(denied.code, 77, denied.stderr);
        assert.match(denied.stderr, /Sallyport refused .*Nothing reached/s);
        config = good(
          await laptop(KUBECTL_ACCESS, ['-n', NAMESPACE, 'ssh-config', '--write']),
          'ssh-config',
        ).stdout.trim();
        const master = ['-F', config, '-o', `ControlPath=${scene.folder}/mux`];
        good(
          await laptop('ssh', [...master, '-o', 'ControlMaster=auto', '-o', 'ControlPersist=20', 'web1', 'id']),
          'id',
        );
        assert.equal((await laptop('ssh', [...master, 'web1', 'whoami'])).code, 77);
        assert.equal((await laptop('ssh', [...master, 'web1', 'echo still'])).stdout, 'still\n');
        await laptop('ssh', [...master, '-O', 'exit', 'web1']);
        return denied.stderr.trim().split('\n')[0]!;
      },
    },
    {
      claim: 'a held command waits with a line on stderr until an approver consents by kubectl access',
      async check() {
        const waiting = scene.start('alice', ['connect', 'web1', '--', 'touch', '/home/deploy/restart']);
        const hold = await scene.until('the hold', async () => {
          const { items } = await scene.read<{ items: CommandHold[] }>('commandholds');
          return items.find(({ status }) => (status?.phase ?? 'Waiting') === 'Waiting');
        });
        assert.equal((await inMachine('web1', 'ls /home/deploy')).includes('restart'), false, 'not yet');
        const pending = good(await scene.access('carol', ['pending']), 'pending');
        assert.match(pending.stdout, /touch \/home\/deploy\/restart/);
        const own = await scene.access('alice', ['approve', hold.metadata.name, '--yes']);
        assert.notEqual(own.code, 0, 'INV-08: one’s own');
        const began = performance.now();
        good(await scene.access('carol', ['approve', hold.metadata.name, '--yes']), 'approve');
        const ran = good(await waiting.done, 'touch');
        assert.match(ran.stderr, /Sallyport: held as h-/);
        assert.match(await inMachine('web1', 'ls /home/deploy'), /restart/);
        return `${ran.stderr.trim().split('\n')[0]}; over ${((performance.now() - began) / 1000).toFixed(1)} s after the approver pressed enter`;
      },
    },
    {
      claim: 'ssh, scp and sftp by name, by the ProxyCommand that ssh-config writes; paths are judged',
      async check() {
        assert.equal((await laptop('ssh', ['-F', config, 'web1', 'echo by name'])).stdout, 'by name\n');
        const file = path.join(scene.folder, 'release');
        fs.writeFileSync(file, Buffer.alloc(8 << 20, 'release\n'));
        good(await laptop('scp', ['-q', '-F', config, file, 'web1:/home/deploy/release']), 'scp there');
        good(await laptop('scp', ['-q', '-F', config, 'web1:/home/deploy/release', `${file}-back`]), 'scp back');
        assert.ok(fs.readFileSync(`${file}-back`).equals(fs.readFileSync(file)));
        const batch =
          'mkdir /home/deploy/dir\nrename /home/deploy/release /home/deploy/dir/r\nls -1 /home/deploy/dir\n';
        const sftp = good(await laptop('sftp', ['-q', '-F', config, '-b', '-', 'web1'], batch), 'sftp');
        assert.match(sftp.stdout, /\/home\/deploy\/dir\/r/);
        const elsewhere = await laptop('scp', ['-q', '-F', config, file, 'web1:/tmp/elsewhere']);
        assert.notEqual(elsewhere.code, 0);
        assert.match(elsewhere.stderr, /Sallyport refused/);
        const shadow = await laptop('scp', ['-q', '-F', config, file, 'web1:/home/deploy/.ssh/authorized_keys']);
        assert.notEqual(shadow.code, 0, 'a wide pattern permits no key');
        return `8 MiB both ways, equal; ${elsewhere.stderr.trim().split('\n')[0]}`;
      },
    },
    {
      claim: 'accounts by key and by password from Secrets that only the proxy reads; Ansible pings and copies',
      async check() {
        await grant('old1', '1h', ['--account', 'backup']);
        const key = good(await connect('old1', 'id', '-un'), 'by key');
        assert.equal(key.stdout, 'backup\n');
        assert.ok(tools.sshPython !== undefined, 'scripts/tools.sh ssh brings Ansible');
        const hosts = path.join(scene.folder, 'inventory');
        fs.writeFileSync(hosts, inventory('old1', 'backup'));
        const ansible = path.join(path.dirname(tools.sshPython), 'ansible');
        const ping = good(await laptop(ansible, ['-i', hosts, 'old1', '-m', 'ping']), 'ansible ping');
        assert.match(ping.stdout, /"ping": "pong"/);
        const file = path.join(scene.folder, 'by-ansible');
        fs.writeFileSync(file, 'by ansible\n');
        const copy = ['-m', 'copy', '-a', `src=${file} dest=/home/backup/copied`];
        good(await laptop(ansible, ['-i', hosts, 'old1', ...copy]), 'ansible copy');
        assert.equal(await inMachine('old1', 'cat /home/backup/copied'), 'by ansible\n');
        const legacy = await grant('old1', '1h', ['--account', 'legacy']);
        const password = good(
          await scene.access('alice', ['connect', 'old1', '--grant', legacy, '--', 'id', '-un']),
          'by password',
        );
        assert.equal(password.stdout, 'legacy\n');
        const log = await scene.inNamespace('logs', 'deployment/old1');
        assert.match(log, /Accepted publickey for backup/);
        assert.match(log, /Accepted password for legacy/);
        return 'backup by key, legacy by password; Ansible ping and copy';
      },
    },
    {
      claim: 'a client in a pod comes through the Service with what `dsn` prints; its known_hosts is the status alone',
      async check() {
        const printed = good(await scene.access('alice', ['dsn', 'web1']), 'dsn').stdout.trim();
        const identity = /IdentityFile=([^\s']+)/.exec(printed)?.[1];
        const user = /-l (\S+)/.exec(printed)?.[1];
        assert.ok(identity !== undefined && user !== undefined, printed);
        const { ssh, endpoint } = await statusOf('web1');
        assert.deepEqual(endpoint, { host: `sallyport-web1.${NAMESPACE}.svc`, port: 22 });
        const plain = ssh!.knownHosts!.filter((line) => !line.startsWith('@'));
        const authority = ssh!.knownHosts!.filter((line) => line.startsWith('@cert-authority '));
        const put = (file: string, text: string): Promise<string> =>
          scene.cluster.kubectl(
            ['-n', NAMESPACE, 'exec', '-i', 'client', '--', 'sh', '-c', `umask 77; cat > /home/client/${file}`],
            { input: text },
          );
        await put('key', fs.readFileSync(identity, 'utf8'));
        await put('plain', `${plain.join('\n')}\n`);
        await put('authority', `${authority.join('\n')}\n`);
        await put('neither', `${endpoint.host} ${machines.hostKeys.web1}\n`);
        const ssh1 = (known: string): Promise<string> =>
          scene.inNamespace(
            'exec',
            'client',
            '--',
            'ssh',
            '-F',
            'none',
            '-i',
            '/home/client/key',
            '-l',
            user,
            '-o',
            `UserKnownHostsFile=/home/client/${known}`,
            '-o',
            'StrictHostKeyChecking=yes',
            endpoint.host,
            'echo from a pod',
          );
        assert.equal(await ssh1('plain'), 'from a pod\n');
        assert.equal(await ssh1('authority'), 'from a pod\n', 'by the host certificate');
        await assert.rejects(ssh1('neither'), /Host key verification failed|IDENTIFICATION HAS CHANGED/);
        return `${plain.length} plain lines, ${authority.length} @cert-authority`;
      },
    },
    {
      claim: 'INV-03: expiry ends what runs, and its processes in the pod',
      async check() {
        const name = await grant('web1', '12s');
        const run = await running(['--grant', name, '--', 'sleep 4711'], 'sleep\x004711');
        const { status } = await scene.read<AccessGrant>('accessgrant', name);
        const closed = await run.closed;
        const closedAt = Date.now() - (performance.now() - closed);
        const gone = (await run.gone()) - closed;
        assert.match(run.told(), /Sallyport: grant .* expired/);
        const late = closedAt - Date.parse(status!.expiresAt!);
        assert.ok(late > -1000 && late < 5000, `${late} ms`);
        return `client closed ${late.toFixed(0)} ms after the end of the grant (by its second), processes gone within ${gone.toFixed(0)} ms of it`;
      },
    },
    {
      claim: 'INV-03: revocation ends a command, and a shell with what it left in the background, in the pod too',
      async check() {
        const told: number[] = [];
        const left: number[] = [];
        for (let trial = 0; trial < trials(10); trial += 1) {
          const name = await grant('web1');
          const word = `sleep\x00${5000 + trial}`;
          const shell = trial % 2 === 1;
          const run = shell
            ? await running(['--grant', name, '--', '-tt'], word, (child) =>
                child.stdin?.write(`sleep ${5000 + trial} & sleep ${5000 + trial}\n`),
              )
            : await running(['--grant', name, '--', `sleep ${5000 + trial}`], word);
          const at = await revoke(name);
          const [closed, gone] = await Promise.all([run.closed, run.gone()]);
          assert.match(run.told(), /Sallyport: grant .* revoked/, run.told());
          told.push(Math.max(0, closed - at));
          left.push(Math.max(0, gone - at));
        }
        const text = `${told.length} trials: client closed p50 ${percentile(told, 50).toFixed(0)} p99 ${percentile(told, 99).toFixed(0)} ms; processes gone p50 ${percentile(left, 50).toFixed(0)} p99 ${percentile(left, 99).toFixed(0)} ms`;
        assert.ok(Math.max(percentile(told, 99), percentile(left, 99)) < 5_000, text);
        return text;
      },
    },
    {
      claim: 'INV-10: keys stay over a rollout of the proxies and a restart of the operator; known clients get in',
      async check() {
        await grant('web1');
        const before = (await statusOf('web1')).ssh;
        const proxy = await scene.read<{ metadata: { uid: string } }>('pod', 'sallyport-web1-0');
        // The operator's objects are nobody else's to restart: another size makes another proxy.
        const larger = { spec: { proxy: { resources: { requests: { memory: '80Mi' } } } } };
        await scene.inNamespace('patch', 'connection', 'web1', '--type=merge', '-p', JSON.stringify(larger));
        await scene.until('another proxy', async () => {
          const now = await scene.read<{ metadata: { uid: string } }>('pod', 'sallyport-web1-0');
          return now.metadata.uid === proxy.metadata.uid ? undefined : true;
        });
        await scene.inNamespace('rollout', 'status', 'statefulset/sallyport-web1', '--timeout=120s');
        await scene.ready('web1');
        assert.deepEqual((await statusOf('web1')).ssh, before);
        const through = async (what: string): Promise<void> => {
          const ran = await scene.until(`ssh after ${what}`, async () => {
            const tried = await laptop('ssh', ['-F', config, 'web1', `echo after ${what}`]);
            assert.doesNotMatch(tried.stderr, /Host key verification failed|HAS CHANGED/);
            return tried.code === 0 ? tried : undefined;
          });
          assert.equal(ran.stdout, `after ${what}\n`);
        };
        await through('the rollout');
        const operator = (...args: string[]): Promise<string> => scene.cluster.kubectl(['-n', RELEASE, ...args]);
        await operator('rollout', 'restart', 'deployment/sallyport');
        await operator('rollout', 'status', 'deployment/sallyport', '--timeout=120s');
        await through('the operator');
        // The new operator looks at every Connection anew; what it would publish is the same.
        await scene.inNamespace('annotate', 'connection', 'web1', 'looked=again');
        await pause(3_000);
        assert.deepEqual((await statusOf('web1')).ssh, before);
        return `${before!.knownHosts!.length} lines and the authority are equal`;
      },
    },
    {
      claim: 'a target that shows another host key gets nothing, and the condition says which it showed and what to do',
      async check() {
        await scene.apply(webConnection('web2', machines.hostKeys.old1));
        const condition = await scene.until('the condition', async () => {
          const seen = await conditionOf('web2');
          return seen?.reason === 'TargetUnreachable' ? seen : undefined;
        });
        const [, blob] = machines.hostKeys.web1.split(' ');
        const print = execFileSync('ssh-keygen', ['-lf', '-'], { input: machines.hostKeys.web1, encoding: 'utf8' });
        assert.ok(blob !== undefined && condition.message.includes(print.split(' ')[1]!), condition.message);
        assert.match(condition.message, /spec\.ssh\.hostKeys/);
        const shown = good(await scene.access('alice', ['ls']), 'ls');
        assert.match(shown.stdout, /web2/);
        await scene.apply(webConnection('web2', machines.hostKeys.web1));
        const fixed = await scene.until('another word', async () => {
          const seen = await conditionOf('web2');
          return seen?.message === condition.message ? undefined : seen;
        });
        await scene.inNamespace('delete', 'connection', 'web2');
        // Its authority is another: the machine believes web1's alone.
        return `${condition.message} | then: ${fixed.message}`;
      },
    },
    {
      claim: 'INV-07: records verify, and a shell’s asciicast draws what its user saw',
      async check() {
        const claim = await claimOf(scene, 'sallyport-web1');
        const verified = await verifyRecords(scene, claim, await trustedRoot(scene, 'sallyport-web1'));
        const { items: sessions } = JSON.parse(await readRecords(scene, claim, ['records', 'ls', '-o', 'json'])) as {
          items: { session: string; denied: number; held: number }[];
        };
        assert.ok(sessions.some(({ denied }) => denied > 0) && sessions.some(({ held }) => held > 0));
        for (const { session } of sessions) {
          const cast = await readRecords(scene, claim, ['replay', session, '--asciicast']).catch(() => '');
          if (!cast.includes('zażółć')) continue;
          const [head = '', ...events] = cast.trim().split('\n');
          const { version, term } = JSON.parse(head) as { version: number; term: { cols: number; rows: number } };
          assert.equal(version, 3);
          const screen = openScreen(term.cols, term.rows);
          for (const line of events) {
            const [, code, data] = JSON.parse(line) as [number, string, string];
            if (code === 'o') await screen.write(data);
            if (code === 'r') screen.resize(Number(data.split('x')[0]), Number(data.split('x')[1]));
          }
          const drawn = screen.look().lines.map((line) => line.replaceAll(/\{[^}]*\}/g, '').trimEnd());
          // What was typed after it was looked at stands behind the last prompt.
          for (const line of shellLines)
            assert.ok(
              drawn.some((each) => each.startsWith(line)),
              line,
            );
          screen.close();
          return `${verified}; ${sessions.length} sessions, ${events.length} events drawn anew`;
        }
        throw new Error('no session has the shell');
      },
    },
    {
      claim:
        'examples/bastion applied ten times by a GitOps tool, while the operator writes beside it: never a difference',
      async check() {
        const objects = exampleObjects('bastion');
        await scene.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
        const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
        const tool = ['--server-side', '--field-manager=gitops', '-f', '-'];
        const generations = async (): Promise<string> =>
          scene.cluster.kubectl(['get', '-f', '-', '-o', 'jsonpath={.items[*].metadata.generation}'], { input });
        await scene.cluster.kubectl(['apply', ...tool], { input });
        const first = await generations();
        for (let round = 1; round < 10; round += 1) {
          await scene.cluster.kubectl(['apply', ...tool], { input });
          // Exits 1 where there is a difference, which throws.
          assert.equal(await scene.cluster.kubectl(['diff', ...tool], { input }), '');
        }
        assert.equal(await generations(), first);
        const { items } = JSON.parse(
          await scene.cluster.kubectl(['-n', 'shop', 'get', 'connections,accesspolicies', '-o', 'json']),
        ) as { items: Pick<Connection, 'kind' | 'status'>[] };
        for (const { kind, status } of items) {
          const accepted = status?.conditions?.find(({ type }) => type === 'Accepted');
          assert.equal(accepted?.status, 'True', `${kind}: ${accepted?.message}`);
        }
        await scene.cluster.kubectl(['delete', 'namespace', 'shop', '--wait=false']);
        return `${objects.length} objects, generations ${first}`;
      },
    },
    {
      claim: 'INV-05: no private key and no password is in an object that people read, in logs, or in an environment',
      async check() {
        const kinds =
          'connections,accesspolicies,accessgrants,accessapprovals,commandholds,accesssessions,enforcementbundles,proxyreplicas,events,statefulsets,deployments,configmaps,pods';
        const objects = await scene.cluster.kubectl(['get', kinds, '-A', '-o', 'json']);
        const logs = await Promise.all([
          scene.inNamespace('logs', 'sallyport-web1-0'),
          scene.inNamespace('logs', 'sallyport-old1-0'),
          scene.cluster.kubectl(['-n', RELEASE, 'logs', 'deployment/sallyport', '--all-pods']),
        ]);
        const environments: string[] = [];
        for (const name of ['sallyport-web1-0', 'sallyport-old1-0']) {
          const { metadata } = await scene.read<{ metadata: { uid: string } }>('pod', name);
          for (const pid of processesOf(metadata.uid, ''))
            environments.push(fs.readFileSync(`/proc/${pid}/environ`, 'utf8'));
        }
        const places = { objects, logs: logs.join('\n'), environments: environments.join('\n'), answers: seen };
        for (const [where, text] of Object.entries(places)) {
          assert.ok(text.length > 0, where);
          assert.doesNotMatch(text, /PRIVATE KEY|"privateKey"|"seed"/, where);
          for (const secret of machines.secrets)
            for (const form of [secret, Buffer.from(secret).toString('base64').replace(/=+$/, '')])
              assert.ok(!text.includes(form), where);
        }
        // Secrets in the team's namespace: those that its owners wrote, and nothing of the gateway's own keys.
        const { items } = await scene.read<{ items: { metadata: { name: string } }[] }>('secrets');
        assert.deepEqual(items.map(({ metadata }) => metadata.name).sort(), [
          'old1',
          'old1-backup',
          'old1-legacy',
          'web1',
        ]);
        for (const user of ['alice', 'carol'])
          await assert.rejects(scene.cluster.kubectl(['-n', NAMESPACE, 'get', 'secrets'], { user }), /forbidden/);
        return `${(objects.length / 1e6).toFixed(1)} MB of objects, ${(places.logs.length / 1e3).toFixed(0)} kB of logs, ${environments.length} environments`;
      },
    },
  ],
};

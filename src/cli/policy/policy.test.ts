import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { postgresRules } from '../../protocols/postgres/rules.ts';
import type { SshFacts } from '../../protocols/ssh/facts.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { policyLint } from './lint.ts';
import { loadPolicies } from './load.ts';
import { preset } from './preset.ts';
import { sshTests } from './ssh.ts';
import { policyTest } from './test.ts';
import { type WhyDeps, why } from './why.ts';

const EXAMPLE = path.resolve(import.meta.dirname, '../../../examples/orders');
const alice = { username: 'alice@corp.example', groups: ['payments'], aliases: [] };

function capture(): { io: Io; out: () => string; err: () => string } {
  let out = '';
  let err = '';
  const io: Io = {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    outTty: false,
    errTty: false,
    inTty: false,
    ready: () => Promise.resolve(),
    env: {},
    ask: () => Promise.resolve(false),
    signal: new AbortController().signal,
  };
  return { io, out: () => out, err: () => err };
}

/** That an error is told with this exit code and hint. */
const refusal =
  (code: ExitCode, message: RegExp, hint = /./) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof CliError, String(error));
    assert.equal(error.exitCode, code);
    assert.match(error.message, message);
    assert.match(error.hint ?? '', hint);
    return true;
  };

async function inCopy(edit: (folder: string) => void, use: (folder: string) => Promise<void>): Promise<void> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-policy-'));
  try {
    fs.cpSync(EXAMPLE, folder, { recursive: true });
    edit(folder);
    await use(folder);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

test('the example of SSH passes its own tests; lint says what its rules can not keep', async () => {
  const dir = path.resolve(EXAMPLE, '../bastion');
  const tested = capture();
  assert.equal(await policyTest({ dir }, tested.io), EXIT.ok, tested.out() + tested.err());
  assert.match(tested.out(), /18 passed, 0 failed/);
  const linted = capture();
  assert.equal(await policyLint({ dir }, linted.io), EXIT.ok, linted.out());
  assert.match(linted.out(), /^warning .*rule "no-secrets": it is advisory/);
});

test('an SSH text that is no command line says what it is; a wrong one fails', async () => {
  const { classify } = sshTests;
  const about = { schema: undefined, parameters: [] };
  const kindOf = (text: string): unknown => {
    const read = classify(text, about);
    return read.kind === 'Commands' ? (read.commands[0]!.facts as SshFacts).kind : read.reason;
  };
  const forms: [string, string][] = [
    ['ls', 'Exec'],
    ['@shell', 'Shell'],
    ['@subsystem netconf', 'Subsystem'],
    ['@read /a b', 'File'],
    ['@forward [::1]:80', 'Forward'],
    ['@listen :80', 'Forward'],
    ['@forward /run/x', 'Forward'],
    ['@env A', 'Environment'],
    ['@agent', 'Feature'],
    ['@user root ls', 'Exec'],
  ];
  for (const [text, kind] of forms) assert.equal(kindOf(text), kind, text);
  for (const text of ['@nothing', '@', '@forward', '@forward a', '@forward a:b', '@forward a:70000'])
    assert.match(String(kindOf(text)), /@/, text);
  const root = classify('@user root ls', about);
  assert.equal(root.kind === 'Commands' && (root.commands[0]!.facts as SshFacts).user, 'root');
});

test('the example passes its own tests, in every form', async () => {
  for (const output of ['table', 'json', 'junit']) {
    const { io, out, err } = capture();
    assert.equal(await policyTest({ dir: EXAMPLE, output }, io), EXIT.ok, out() + err());
    assert.equal(err(), '');
  }
});

test('the example has no errors, and lint points at what is wrong with file and line', async () => {
  const clean = capture();
  assert.equal(await policyLint({ dir: EXAMPLE }, clean.io), EXIT.ok, clean.out());
  await inCopy(
    (folder) =>
      fs.writeFileSync(
        path.join(folder, 'extra.yaml'),
        [
          'apiVersion: sallyport.dev/v1alpha1',
          'kind: AccessPolicy',
          'metadata: { name: extra, namespace: payments }',
          'spec:',
          '  connectionSelector: {}',
          '  subjects: [{ kind: Group, name: x }]',
          '  accounts: [nobody]',
          '  rules:',
          '    - name: a',
          '      action: Allow',
          '    - name: b',
          '      action: Deny',
          '      sql: { statements: [DORP TABLE] }',
          '',
        ].join('\n'),
      ),
    async (folder) => {
      const { io, out } = capture();
      assert.equal(await policyLint({ dir: folder }, io), EXIT.misconfigured);
      assert.match(out(), /error {4}.*extra\.yaml:7:\d+: spec\.accounts: .*names "nobody"/);
      assert.match(out(), /error {4}.*extra\.yaml:11:\d+: .*"DORP TABLE".*did you mean "DROP TABLE"\?/);
      assert.match(out(), /warning {2}.*extra\.yaml:11:\d+: .*denies without a message/);
    },
  );
});

test('a changed policy fails the tests with exit code 1; a bad file is 78, with its line', async () => {
  await inCopy(
    (folder) => {
      const file = path.join(folder, 'policy-team.yaml');
      fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('effects: [Define, Grant]', 'effects: [Grant]'));
    },
    async (folder) => {
      const { io, out } = capture();
      const junitFile = path.join(folder, 'junit.xml');
      assert.equal(await policyTest({ dir: path.join(folder, 'tests'), policies: folder, junitFile }, io), EXIT.failed);
      assert.match(out(), /FAIL {2}the schema stays as it is/);
      assert.match(out(), /team\.test\.yaml:\d+: the schema stays/);
      assert.match(fs.readFileSync(junitFile, 'utf8'), /<failure /);
    },
  );
  await inCopy(
    (folder) => fs.appendFileSync(path.join(folder, 'tests/team.test.yaml'), '    - name: more\n      expect: Alow\n'),
    async (folder) => {
      const { io, out, err } = capture();
      assert.equal(await policyTest({ dir: folder }, io), EXIT.misconfigured);
      assert.match(err(), /team\.test\.yaml:\d+:\d+: spec\.cases\[\d+\]\.expect: "Alow"/);
      assert.equal(out(), '');
    },
  );
});

test('no tests, no directory and an unknown form are 78', async () => {
  const { io, err } = capture();
  assert.equal(await policyTest({ dir: path.join(EXAMPLE, 'nowhere') }, io), EXIT.misconfigured);
  assert.match(err(), /nowhere:1:1: can not be read \(ENOENT\).*\n1 problem; no case was run\.\n$/);
  await assert.rejects(
    policyTest({ dir: EXAMPLE, output: 'pdf' }, io),
    refusal(EXIT.misconfigured, /^-o pdf is no form/),
  );
  await inCopy(
    (folder) => fs.rmSync(path.join(folder, 'tests'), { recursive: true }),
    (folder) =>
      assert.rejects(policyTest({ dir: folder }, io), refusal(EXIT.misconfigured, /^There is no PolicyTest in/)),
  );
});

test('a schema that can not be read is said in the row of its case', async () => {
  await inCopy(
    (folder) => {
      const file = path.join(folder, 'tests/team.test.yaml');
      fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/schema: .*/, 'schema: gone.json'));
    },
    async (folder) => {
      const { io, out } = capture();
      assert.equal(await policyTest({ dir: folder }, io), EXIT.misconfigured);
      assert.match(out(), /ERROR .* schema gone\.json can not be read \(ENOENT\)/);
    },
  );
});

const deps: WhyDeps = {
  world: () => Promise.resolve(loadPolicies(EXAMPLE).world),
  findDenial: (id) =>
    Promise.resolve(
      id === 'd-51c0'
        ? {
            denial: id,
            at: '2026-01-01T00:00:00.000Z',
            session: 's-1',
            user: 'alice@corp.example',
            connection: 'payments/orders-db',
            command: {
              verb: 'DROP TABLE',
              text: 'drop table\u001b[2J orders',
              code: 'RuleDenied',
              by: [{ policy: 'payments/orders-team', rule: 'no-ddl' }],
              message: 'Sallyport refused DROP TABLE orders',
            },
          }
        : undefined,
    ),
};

test('why explains a statement for somebody now', async () => {
  const { io, out } = capture();
  assert.equal(await why({ subject: 'drop table orders', as: alice }, io, deps), EXIT.ok);
  assert.match(
    out(),
    /^alice@corp\.example on payments\/orders-db as writer, under policy payments\/orders-team: denied by payments\/orders-team "no-ddl"\n/,
  );
  const json = capture();
  await why({ subject: 'select 1', as: alice, output: 'json' }, json.io, deps);
  assert.equal((JSON.parse(json.out()) as { decision: { kind: string } }).decision.kind, 'Allow');
  const broken = capture();
  await why({ subject: 'selekt', as: alice }, broken.io, deps);
  assert.match(broken.out(), /not understood/);
});

test('why says who is let in at all, and which Connections there are', async () => {
  const stranger = capture();
  assert.equal(await why({ subject: 'select 1', as: { ...alice, groups: [] } }, stranger.io, deps), EXIT.ok);
  assert.match(stranger.out(), /^No policy gives alice@corp\.example access/);
  const lost = capture();
  await assert.rejects(
    why({ subject: 'select 1', as: alice, connection: 'a/b' }, lost.io, deps),
    refusal(EXIT.misconfigured, /^There is no Connection a\/b/, /payments\/orders-db/),
  );
});

test('why tells a past denial by its id, harmlessly', async () => {
  const { io, out } = capture();
  assert.equal(await why({ subject: 'd-51c0', as: alice }, io, deps), EXIT.ok);
  assert.match(out(), /Why {6}policy payments\/orders-team, rule "no-ddl"/);
  assert.ok(!out().includes('\u001b'));
  const gone = capture();
  await assert.rejects(
    why({ subject: 'd-ffff', as: alice }, gone.io, deps),
    refusal(EXIT.failed, /^There is no record of denial d-ffff$/, /pruned/),
  );
});

test('presets are listed and printed', () => {
  const { io, out } = capture();
  assert.equal(preset({}, io, postgresRules), EXIT.ok);
  assert.match(out(), /ReadOnly\nReadWrite\nHoldSchemaAndPrivilegeChanges/);
  assert.equal(preset({ name: 'ReadOnly' }, io, postgresRules), EXIT.ok);
  assert.match(out(), /rules:\n {2}- name: read/);
  for (const [name, hint] of [
    ['Nope', /^Write one of ReadOnly,/],
    ['Readonly', /^Did you mean ReadOnly\?/],
  ] as const)
    assert.throws(
      () => preset({ name }, io, postgresRules),
      refusal(EXIT.misconfigured, new RegExp(`^There is no preset ${name}$`), hint),
    );
});

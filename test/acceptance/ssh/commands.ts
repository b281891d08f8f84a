// Criteria of command lines: a corpus of what people and attackers write, sent by OpenSSH's client to a real sshd whose
// programs write down each of their runs.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import type { CliResult } from '../../support/local.ts';
import { allowed, held } from '../../support/ssh-command-lines/allowed.ts';
import { denied } from '../../support/ssh-command-lines/denied.ts';
import { notUnderstood } from '../../support/ssh-command-lines/not-understood.ts';
import { LINE_RULES } from '../../support/ssh-command-lines/rules.ts';
import { alice, type SshScene, startSshScene } from '../../support/ssh-scene.ts';
import type { CriteriaGroup } from '../criterion.ts';

const STUBS = ['canary', 'pwned', 'restart-app'];
const AT_ONCE = 8;

let scene: SshScene;
let runs: string;
/** The command line `sallyport dsn` prints, with one connection for all. */
let line: string;

const run = (command: string): Promise<CliResult> =>
  scene.run('sh', ['-c', `${line} -- "$0"`, command], { timeoutMs: 30_000 });

const ran = (): string => (fs.existsSync(runs) ? fs.readFileSync(runs, 'utf8') : '');

async function all(lines: readonly string[], check: (command: string, result: CliResult) => void): Promise<void> {
  const left = [...lines];
  const worker = async (): Promise<void> => {
    for (let command = left.shift(); command !== undefined; command = left.shift()) check(command, await run(command));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

export const commands: CriteriaGroup = {
  name: 'commands',
  async start() {
    const bin = fs.mkdtempSync('/tmp/sallyport-stubs-');
    runs = path.join(bin, 'runs');
    fs.writeFileSync(runs, '', { mode: 0o666 });
    for (const name of STUBS) {
      fs.writeFileSync(path.join(bin, name), `#!/bin/sh\necho "${name} $*" >> ${runs}\n`, { mode: 0o755 });
    }
    fs.mkdirSync('/tmp/lines', { recursive: true });
    scene = await startSshScene(
      { web1: LINE_RULES.map((rule) => `  - ${JSON.stringify(rule)}`).join('\n') },
      { sshd: { config: [`SetEnv PATH=${bin}:/usr/local/bin:/usr/bin:/bin`, 'MaxSessions 100'] } },
    );
    await scene.request('web1');
    const { stdout } = await scene.local.cli(['dsn', 'web1', '--user', scene.sshd.user], alice);
    const words = stdout.trim().split(' ');
    const control = ['-o', 'ControlMaster=auto', '-o', 'ControlPersist=300', '-o', `ControlPath=${scene.folder}/mux`];
    line = [words[0], ...control, ...words.slice(1)].join(' ');
    const first = await run('true');
    assert.equal(first.code, 0, first.output);
  },
  criteria: [
    {
      claim: 'INV-01: what a rule denies, and what no rule allows, never runs',
      async check() {
        // As root `sudo id` changes nothing: the policy is about a user that is none.
        const lines = denied.filter((each) => scene.sshd.user !== 'root' || !/\b(sudo|doas|su)\b/.test(each));
        await all(lines, (command, { code, stderr }) => {
          assert.equal(code, 77, `${JSON.stringify(command)}: ${stderr}`);
          assert.match(stderr, /Nothing reached the target/, command);
        });
        assert.equal(ran(), '');
        return `${lines.length} lines, 0 ran`;
      },
    },
    {
      claim: 'INV-02: what can not be understood is denied',
      async check() {
        await all(notUnderstood, (command, { code, stderr }) =>
          assert.equal(code, 77, `${JSON.stringify(command)}: ${stderr}`),
        );
        assert.equal(ran(), '');
        return `${notUnderstood.length} lines, 0 ran`;
      },
    },
    {
      claim: 'what is allowed runs, and nothing beside it',
      async check() {
        await all(allowed, (command, { code, stderr }) => {
          assert.notEqual(code, 77, `${JSON.stringify(command)}: ${stderr}`);
          assert.doesNotMatch(stderr, /Sallyport/, command);
        });
        assert.equal(ran(), '');
        return `${allowed.length} lines`;
      },
    },
    {
      claim: 'what is held waits with a line that says so, and is not run when nobody consents',
      async check() {
        await all(held, (command, { code, stderr }) => {
          assert.equal(code, 75, `${JSON.stringify(command)}: ${stderr}`);
          assert.match(stderr, /ask/, command);
        });
        assert.equal(ran(), '');
        return `${held.length} lines, 5 s each`;
      },
    },
  ],
  stop: async () => scene?.stop(),
};

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  filesUnder,
  openTestLog,
  recordFolder,
  testControllerKey,
  testSigner,
  written,
} from '../../test/support/records.ts';
import { trustedKeyOf } from '../policy/bundle-signing.ts';
import { fileTransfers, fileUses, forwardUses, privilegedCommands } from './audit-ssh.ts';
import type { ProcessRecordLog } from './log/process-log.ts';
import { readSession } from './reader.ts';
import type { SessionRecorder } from './recorder.ts';
import { createTeller } from './replay.ts';
import { viewRecords } from './store-view.ts';
import { verifyRecords } from './verify.ts';

function begin(log: ProcessRecordLog, id: string, username: string): SessionRecorder {
  const session = log.session(id);
  session.append('start', {
    protocol: 'ssh',
    connection: { uid: 'c-1', name: 'web', namespace: 'payments' },
    grant: { name: 'web-7fk2p', uid: 'g-1', policy: 'payments/ops' },
    principal: { username, groups: ['ops'] },
    account: 'deploy',
    client: { address: '127.0.0.1' },
    policyGeneration: 1,
  });
  return session;
}

function run(session: SessionRecorder, command: Record<string, unknown>, result?: Record<string, unknown>): void {
  const { ssh, ...rest } = command as { ssh: object };
  session.append(
    'command',
    { verb: 'exec', text: '', effects: [], decision: 'Allow', ...rest, facts: { ssh: { user: 'deploy', ...ssh } } },
    0,
  );
  if (result !== undefined) session.append('result', { id: command['id'], ...result }, 0);
}

test('what ran over SSH, who used a file, what moved, where forwards led', async (t) => {
  const folder = recordFolder(t);
  const log = await openTestLog(folder);
  const alice = begin(log, 's-alice', 'alice');
  const sudo = { kind: 'Exec', pty: false, commands: [{ name: 'systemctl', within: ['sudo'], user: 'root' }] };
  run(alice, { id: 1, text: 'sudo systemctl restart web', ssh: sudo }, {});
  run(alice, { id: 2, text: 'sudo systemctl stop web', ssh: sudo, approvedBy: ['bob'] }, {});
  run(alice, { id: 3, text: 'sudo systemctl mask web', ssh: sudo, decision: 'Deny', denial: 'd-1' });
  run(alice, { id: 4, text: 'uptime', ssh: { kind: 'Exec', commands: [{ name: 'uptime' }] } }, {});
  run(
    alice,
    { id: 5, text: 'su -c "$X"', ssh: { kind: 'Exec', problem: 'an expansion' } },
    { error: { code: 'x', message: 'y' } },
  );
  run(alice, { id: 6, verb: 'shell', ssh: { kind: 'Shell', user: 'root', pty: true } });
  run(alice, { id: 7, text: 'cat /etc/shadow', ssh: { kind: 'Exec', commands: [{ name: 'cat' }] } }, {});
  run(
    alice,
    {
      id: 8,
      text: 'sort < /etc/shadow',
      effects: [{ action: 'Read', object: ['file', '/etc/shadow'] }],
      ssh: { kind: 'Exec', commands: [{ name: 'sort' }] },
    },
    {},
  );
  const read = [{ action: 'Read', path: '/tmp/link', resolved: '/etc/shadow', subtree: false }];
  run(
    alice,
    { id: 9, verb: 'sftp open', ssh: { kind: 'File', via: 'sftp', operation: 'OPEN', access: read } },
    {
      bytes: 10,
      facts: { ssh: { read: { bytes: 10, sha256: 'ab'.repeat(32) }, closed: 'Client' } },
    },
  );
  const below = [{ action: 'Read', path: '/etc', subtree: true }];
  run(
    alice,
    { id: 10, verb: 'rsync send', ssh: { kind: 'File', via: 'rsync', operation: 'send', access: below } },
    {
      bytes: 99,
      facts: { ssh: { fromTarget: 90, toTarget: 9 } },
    },
  );
  run(
    alice,
    { id: 11, text: 'cd /etc; cat shadows /etc/shadows /', ssh: { kind: 'Exec', commands: [{ name: 'cat' }] } },
    {},
  );
  const destination = { kind: 'Address', address: '10.0.0.5', port: 443 };
  run(
    alice,
    { id: 12, verb: 'forward', text: '10.0.0.5:443', ssh: { kind: 'Forward', direction: 'Local', destination } },
    { bytes: 4096 },
  );
  // Of any shape: nobody is kept from reading the rest.
  run(
    alice,
    { id: 13, ssh: { kind: 'File', access: 'x', commands: 5, streams: [] } },
    { facts: { ssh: { read: 'x' } } },
  );
  alice.append('end', { reason: 'Done', survivors: ['1234 sleep'] });
  alice.close();
  const bob = begin(log, 's-bob', 'bob');
  run(bob, { id: 1, text: 'sudo -i', ssh: sudo });
  assert.equal(await written(bob), undefined);

  for (let round = 0; round < 2; round += 1) {
    using view = viewRecords(folder);
    assert.deepEqual(
      [...privilegedCommands(view)].map(
        ({ session, command, outcome, why }) => `${session} ${command} ${outcome} ${why.join()}`,
      ),
      [
        's-alice 1 Ran sudo systemctl as root',
        's-alice 5 Failed not understood',
        's-alice 6 Unknown root’s own login',
        's-bob 1 Unknown sudo systemctl as root',
      ],
    );
    assert.deepEqual(
      [...privilegedCommands(view, { user: 'alice' }, { all: true })].map(
        ({ command, outcome, approvedBy }) => `${command} ${outcome} ${approvedBy.join()}`,
      ),
      ['1 Ran ', '2 Ran bob', '3 Refused ', '5 Failed ', '6 Unknown '],
    );
    assert.deepEqual(
      [...fileUses(view, '/etc/shadow')].map(
        ({ command, how, actions, paths }) => `${command} ${how} ${actions.join()} ${paths.join()}`,
      ),
      [
        '7 Named  /etc/shadow',
        '8 Shell Read /etc/shadow',
        '9 Operation Read /etc/shadow',
        '10 Operation Read /etc',
        '11 Named  /etc',
      ],
    );
    assert.deepEqual([...fileUses(view, '/srv/*')], []);
    assert.deepEqual(
      [...fileUses(view, '/etc/*')].map(({ command }) => command),
      [7, 8, 9, 10, 11],
    );
    assert.deepEqual(
      [...fileTransfers(view)].map(
        ({ command, direction, bytes, sha256, path }) =>
          `${command} ${direction} ${bytes} ${sha256?.slice(0, 2)} ${path}`,
      ),
      ['9 Read 10 ab /etc/shadow', '10 Read 90 undefined /etc', '10 Written 9 undefined /etc'],
    );
    assert.deepEqual(
      [...forwardUses(view)].map(
        ({ direction, destination: to, bytes, outcome }) => `${direction} ${to} ${bytes} ${outcome}`,
      ),
      ['Local 10.0.0.5:443 4096 Ran'],
    );
    const teller = createTeller();
    let told = '';
    for (const item of readSession(view, 's-alice')) if (item.kind === 'Record') told += teller.tell(item.record);
    told += teller.end();
    assert.match(told, /#1 exec: allowed\n {4}sudo systemctl restart web\n {4}runs systemctl within sudo as root\n/);
    assert.match(told, /Read \/tmp\/link, which is \/etc\/shadow\n/);
    assert.match(told, /ended: Done\n {4}still running at the target: 1234 sleep\n/);
    if (round === 0) await log.close();
  }
});

test('INV-07: a byte changed in what a terminal showed, a missing piece, a resize moved: each is found', async (t) => {
  const controllerKey = testControllerKey();
  const folder = recordFolder(t);
  const log = await openTestLog(folder, { signer: testSigner(controllerKey), segmentBytes: 600 });
  const session = begin(log, 's-one', 'alice');
  run(session, { id: 0, verb: 'shell', ssh: { kind: 'Shell', pty: true } });
  for (let index = 0; index < 40; index += 1) {
    session.append('output', { id: 0, stream: 'terminal', text: `line ${index}\r\n`, bytes: 9 }, 0);
    if (index % 10 === 0) session.append('resize', { id: 0, columns: 80 + index, rows: 24 }, 0);
    await written(session);
  }
  session.append('result', { id: 0, bytes: 360 }, 0);
  session.append('end', { reason: 'Done' });
  session.close();
  await log.close();
  const roots = [trustedKeyOf(controllerKey)];
  assert.deepEqual(verifyRecords(folder, { roots }).findings, []);
  const pieces = filesUnder(folder).filter((name) => name.includes('/s-one.'));
  assert.ok(pieces.length > 2, `${pieces.length} pieces`);
  fc.assert(
    fc.property(
      fc.constantFrom(...pieces),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (piece, place) => {
        const file = `${folder}/${piece}`;
        const bytes = fs.readFileSync(file);
        const changed = Buffer.from(bytes);
        changed[Math.floor(place * bytes.length)]! ^= 0x20;
        fs.writeFileSync(file, changed);
        try {
          assert.ok(verifyRecords(folder, { roots }).findings.some(({ piece: found }) => found === piece));
        } finally {
          fs.writeFileSync(file, bytes);
        }
      },
    ),
    { numRuns: 60 },
  );
  fs.unlinkSync(`${folder}/${pieces[1]}`);
  assert.ok(verifyRecords(folder, { roots }).findings.length > 0);
});

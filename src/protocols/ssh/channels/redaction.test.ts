import assert from 'node:assert/strict';
import { test } from 'node:test';
import { redactLine } from './redaction.ts';

test('INV-05: what command lines are known to carry is hidden', () => {
  for (const [text, expected] of [
    ['PGPASSWORD=hunter2 psql -h db', 'PGPASSWORD=*** psql -h db'],
    ["API_TOKEN='a b' run --now", 'API_TOKEN=*** run --now'],
    ['restic --password hunter2 backup', 'restic --password *** backup'],
    ['az login --client-secret=abc -u me', 'az login --client-secret=*** -u me'],
    ['git clone https://me:hunter2@git.example/x', 'git clone https://me:***************/x'],
    [
      'curl -H "Authorization: Bearer abc.def" https://x.example',
      'curl -H "Authorization: Bearer ***" https://x.example',
    ],
    ['mysql -uroot -phunter2 shop', 'mysql -uroot -p*** shop'],
    ['curl -u me:hunter2 https://x.example', 'curl -u me:*** https://x.example'],
    ['sshpass -p hunter2 ssh x', 'sshpass -p *** ssh x'],
  ] as const) {
    const { text: shown, hidden } = redactLine(text);
    assert.equal(shown, expected);
    assert.ok(hidden > 0);
  }
});

test('lines that hold nothing stay as they are', () => {
  for (const text of ['passwd root', 'ls -la /etc', 'echo "token ring"', 'systemctl status sshd']) {
    assert.deepEqual(redactLine(text), { text, hidden: 0 });
  }
});

test('INV-11: no line of 64 KiB keeps the process busy', () => {
  const startedMs = performance.now();
  for (const piece of [
    'x',
    'mysql ',
    'curl -u ',
    'PASSWORD',
    'TOKEN=',
    ' --password',
    '://a:',
    '-----BEGIN PRIVATE KEY-----',
    "TOKEN='",
    ' ',
    '-p',
  ])
    redactLine(piece.repeat(Math.ceil(65_536 / piece.length)));
  assert.ok(performance.now() - startedMs < 10_000);
});

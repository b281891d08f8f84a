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
    ['sshpass -phunter2 ssh x', 'sshpass -p*** ssh x'],
    ['export AWS_SECRET_ACCESS_KEY=hunter2; aws s3 ls', 'export AWS_SECRET_ACCESS_KEY=***; aws s3 ls'],
    ['curl -ume:hunter2 https://x.example', 'curl -ume:*** https://x.example'],
    ["mysql -h db -p'hunter2 x' shop", 'mysql -h db -p*** shop'],
    ['MYSQL_PWD=hunter2 mysql', 'MYSQL_PWD=*** mysql'],
    ['redis-cli -h cache -a hunter2 get x', 'redis-cli -h cache -a *** get x'],
    ['ldapsearch -D cn=admin -w hunter2 -b dc=x', 'ldapsearch -D cn=admin -w *** -b dc=x'],
    ['mongosh -u root -p hunter2 db', 'mongosh -u root -p *** db'],
    ['docker login -u me -p hunter2 registry.example', 'docker login -u me -p *** registry.example'],
    ['smbclient //s/share -U me%hunter2', 'smbclient //s/share -U me%***'],
    ['openssl rsa -passin pass:hunter2 -in key', 'openssl rsa -passin pass:*** -in key'],
    ['htpasswd -b users me hunter2', 'htpasswd -b users me ***'],
    [
      `curl -d '{"user":"me","password":"hunter2"}' https://x.example`,
      `curl -d '{"user":"me","password":"***"}' https://x.example`,
    ],
    ['curl -d user=me&password=hunter2 https://x.example', 'curl -d user=me&password=*** https://x.example'],
    ['curl -H PRIVATE-TOKEN:hunter2 https://x.example', 'curl -H PRIVATE-TOKEN:*** https://x.example'],
    ['curl -H "Cookie: session=hunter2" https://x.example', 'curl -H "Cookie: ***" https://x.example'],
    ['zip -P hunter2 a.zip b', 'zip -P *** a.zip b'],
    ["echo 'me:hunter2' | chpasswd", "echo 'me:***' | chpasswd"],
    ['chpasswd <<< me:hunter2', 'chpasswd <<< me:***'],
  ] as const) {
    const { text: shown, hidden } = redactLine(text);
    assert.equal(shown, expected);
    assert.ok(hidden > 0);
  }
});

test('lines that hold nothing stay as they are', () => {
  for (const text of [
    'passwd root',
    'ls -la /etc',
    'echo "token ring"',
    'systemctl status sshd',
    'zip -r a.zip b',
    'docker run -p 80:80 web',
    'echo x | sudo -S tee /etc/motd',
    'redis-cli -h a get b',
  ]) {
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
    'echo ',
    'docker login ',
    '"password":',
    'htpasswd -b ',
    "echo '",
  ])
    redactLine(piece.repeat(Math.ceil(65_536 / piece.length)));
  assert.ok(performance.now() - startedMs < 10_000);
});

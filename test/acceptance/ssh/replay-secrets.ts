// What must not be kept is in no record file: each secret is looked for as text, base64, hex and UTF-16, in what is stored
// and in what that unpacks to. What is shown instead is looked at, too: a search that finds nothing proves little alone.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { readSegmentHeader } from '../../../src/recording/seal/segment.ts';
import { onTerminal, recordsOf, sessionsOf } from '../../support/ssh-replay.ts';
import type { SshScene } from '../../support/ssh-scene.ts';

const CARD = '4556737586899855';
const half = CARD.slice(0, 8);
const rest = CARD.slice(8);

/** Each is in no record; none looks like anything that detectors know. */
const WORDS = {
  mysql: 'Quince-mysql-41',
  curl: 'Quince-curl-42',
  exported: 'Quince-aws-43',
  typed: 'Quince-typed-44',
  file: 'Quince-file-45',
  stdin: 'Quince-stdin-46',
  variable: 'Quince-variable-47',
};

/** A card as programs write it; `shown` what is kept. */
const WRITTEN: readonly (readonly [string, string])[] = [
  ['colours', `printf 'card ${half.slice(0, 4)}\\033[1m${half.slice(4)}\\033[0m${rest} ok\\n'`],
  ['packets', `printf ${half}; sleep 0.3; printf ${rest}; echo`],
  ['taken back', `printf '${half}7\\b \\b${rest}\\n'`],
  ['cursor', `printf '${half}00\\033[2D${rest}\\n'`],
  ['every digit twice', `printf '${Array.from(CARD, (digit) => `${digit}${digit}\\b`).join('')}\\n'`],
];

export async function keptSecrets(scene: SshScene): Promise<string> {
  const known = new Set(await sessionsOf(scene));
  const ran = async (command: string, input = ''): Promise<void> => void (await scene.ssh(['web', command], { input }));
  for (const [, command] of WRITTEN) {
    await ran(command);
    await ran(`{ ${command}; } >&2`);
    await onTerminal(scene, [command], []);
  }
  await ran('cat >/dev/null', `${half}\u001b[1m${rest}\n`);
  await ran(
    `true mysql -u root -p${WORDS.mysql} shop; true curl -u me:${WORDS.curl} x; export AWS_SECRET_ACCESS_KEY=${WORDS.exported}`,
  );
  await ran('sudo -S true', `${WORDS.stdin}\n`);
  await onTerminal(
    scene,
    ['bash -c "read -s -p Password: x; echo; echo got ${#x}"'],
    [{ keys: `${WORDS.typed}\r`, after: 'Password:' }],
  );
  const file = path.join(scene.folder, `kept-${CARD}`);
  fs.writeFileSync(file, `${WORDS.file}\n`.repeat(100));
  const copied = await scene.run('scp', ['-F', scene.config, '-q', file, `${scene.sshd.user}@web:${file}.copy`]);
  assert.equal(copied.code, 0, copied.output);
  await scene.run('ssh', [
    '-F',
    scene.config,
    '-l',
    scene.sshd.user,
    '-o',
    `SetEnv=LC_NOTE=${WORDS.variable}`,
    'web',
    'true',
  ]);

  const sessions = (await sessionsOf(scene)).filter((session) => !known.has(session));
  let masked = 0;
  const shown: string[] = [];
  for (const session of sessions) {
    for (const record of await recordsOf(scene, session)) {
      const body = record.body as { masked?: number; text?: string };
      if (record.kind === 'output') masked += body.masked ?? 0;
      if (record.kind === 'command') shown.push(body.text ?? '');
    }
  }
  // Each on stdout, stderr and a terminal, and once on stdin.
  assert.ok(masked >= 3 * WRITTEN.length + 1, `${masked} values were masked`);
  assert.ok(shown.some((text) => text.includes('-p***') && text.includes('me:***') && text.includes('KEY=***')));

  const { files, bytes, found } = searched(path.join(scene.local.state, 'records'));
  assert.deepEqual(found, []);
  return `${sessions.length} sessions, ${masked} values masked; ${Object.keys(WORDS).length + 1} secrets in none of ${files} files (${bytes} bytes unpacked)`;
}

/** Every spelling of every secret, in every file as it is and unpacked. */
function searched(folder: string): { files: number; bytes: number; found: string[] } {
  const needles = [CARD, ...Object.values(WORDS)].flatMap(spellings);
  const found: string[] = [];
  let files = 0;
  let bytes = 0;
  for (const name of fs.readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const file = path.join(folder, name);
    if (!fs.statSync(file).isFile()) continue;
    files += 1;
    const stored = fs.readFileSync(file);
    const header = readSegmentHeader(stored);
    const texts = [stored];
    if (header !== undefined)
      texts.push(zstdDecompressSync(stored.subarray(header.length, header.length + header.header.length)));
    for (const text of texts) {
      bytes += text.length;
      for (const { what, needle } of needles) if (text.includes(needle)) found.push(`${name}: ${what}`);
    }
  }
  assert.ok(files > 2 && bytes > 10_000, `${files} files, ${bytes} bytes`);
  return { files, bytes, found };
}

function spellings(secret: string): { what: string; needle: Buffer }[] {
  const plain = Buffer.from(secret);
  const needles = [
    { what: secret, needle: plain },
    { what: `${secret} in hex`, needle: Buffer.from(plain.toString('hex')) },
    { what: `${secret} in UTF-16`, needle: Buffer.from(secret, 'utf16le') },
  ];
  // Base64 depends on how many bytes stand before: of each of three, what does not depend on the neighbours.
  for (let before = 0; before < 3; before += 1) {
    const text = Buffer.concat([Buffer.alloc(before), plain])
      .toString('base64')
      .replace(/=+$/, '');
    needles.push({ what: `${secret} in base64`, needle: Buffer.from(text.slice(before === 0 ? 0 : before + 1, -2)) });
  }
  return needles;
}

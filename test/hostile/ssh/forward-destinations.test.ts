// What a forward may lead to, against clients that spell it in other ways. Rules and relay are the real ones.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG, OPEN_FAILURE } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { commandsOf, direct, failure, forwardingBed, open } from '../../support/ssh-forwards.ts';
import { numbers } from '../../support/ssh-relay-bed.ts';

test('one destination has many spellings, and each is the same to a rule; what is dialled is what was judged', async () => {
  const spellings = [
    '127.0.0.1',
    '127.1',
    '0x7f.1',
    '0x7f000001',
    '2130706433',
    '017700000001',
    '::ffff:127.0.0.1',
    '::FFFF:7f00:1',
    '[::ffff:127.0.0.1]',
    '127.0.0.1.',
    '0177.0.0.01',
  ];
  for (const spelling of spellings) {
    const bed = await forwardingBed(['127.0.0.1:5432']);
    await bed.fromClient(direct(spelling, 5432));
    const reader = readData(bed.targetGot[0] ?? assert.fail(spelling), 1);
    assert.equal(reader.text(), 'direct-tcpip');
    for (let skip = 0; skip < 3; skip += 1) reader.uint32();
    assert.equal(reader.text(), '127.0.0.1', spelling);
    const denied = await forwardingBed(['127.0.0.2:5432']);
    await denied.fromClient(direct(spelling, 5432));
    assert.equal(failure(denied.clientGot[0]).code, OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED, spelling);
    assert.equal(denied.targetGot.length, 0, spelling);
  }
});

test('metadata, other sshds and the target’s own are not reached by wide rules, however they are spelled', async () => {
  const wide = ['*:*', '0.0.0.0/0:*', '[::/0]:*'];
  const tricks: [string, number][] = [
    ...[
      '169.254.169.254',
      '169.254.43518',
      '0xa9fea9fe',
      '2852039166',
      '0251.0376.0251.0376',
      '::ffff:169.254.169.254',
      '::ffff:a9fe:a9fe',
      '64:ff9b::169.254.169.254',
      'metadata.google.internal',
      'METADATA.GOOGLE.INTERNAL.',
      'metadata',
      'instance-data.ec2.internal',
      '169.254.169.254.nip.io',
      '169-254-169-254.sslip.io',
      'fd00:ec2::254',
      '[fd00:ec2:0::254]',
      'fe80::a9fe:a9fe%eth0',
      '100.100.100.200',
    ].map((host): [string, number] => [host, 80]),
    ...[
      '127.0.0.1',
      '0',
      '',
      '*',
      '::',
      '::1',
      'localhost',
      'LOCALHOST.',
      'web1.internal',
      'Web1.Internal.',
      '10.0.0.9',
    ].flatMap((host): [string, number][] => [
      [host, 22],
      [host, 2222],
    ]),
  ];
  for (const [host, port] of tricks) {
    const bed = await forwardingBed(wide);
    await bed.fromClient(direct(host, port));
    assert.equal(failure(bed.clientGot[0]).code, OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED, `${host}:${port}`);
    assert.equal(bed.targetGot.length, 0, `${host}:${port}`);
    assert.equal(commandsOf(bed)[0]?.['decision'], 'Deny', `${host}:${port}`);
  }
  const bed = await forwardingBed(wide);
  await bed.fromClient(direct('10.0.0.9', 443));
  assert.equal(bed.targetGot.length, 1);
  const spelledOut = await forwardingBed(['169.254.169.254:80', 'web1.internal:2222']);
  await spelledOut.fromClient(direct('0xa9fea9fe', 80, 1), direct('WEB1.internal.', 2222, 2));
  assert.deepEqual(numbers(spelledOut.targetGot), [MSG.CHANNEL_OPEN, MSG.CHANNEL_OPEN]);
});

test('what is no destination is refused: controls, ports out of range, sockets that are not plain paths, NUL', async () => {
  const bed = await forwardingBed(['*:*', '/**']);
  const sockets = [
    'relative.sock',
    '/run/../run/docker.sock',
    '/run//docker.sock',
    '/run/./a',
    '/run/a\0b',
    '@abstract',
    '\0abstract',
    '',
    '/',
    '/run/a/',
    `/${'x'.repeat(108)}`,
  ];
  const opens = [
    direct('a\nb', 80),
    direct('a\0.b', 80),
    direct('host name', 80),
    direct('a;id', 80),
    direct('x', 65_536),
    direct('x', 2 ** 32 - 1),
    ...sockets.map((path) =>
      open('direct-streamlocal@openssh.com', 7, [{ string: path }, { string: '' }, { uint32: 0 }]),
    ),
  ];
  await bed.fromClient(...opens);
  assert.deepEqual(
    numbers(bed.clientGot),
    opens.map(() => MSG.CHANNEL_OPEN_FAILURE),
  );
  assert.equal(bed.targetGot.length, 0);
  assert.equal(bed.records.filter(({ body }) => body['event'] === 'ForwardRefused').length, opens.length);
  assert.deepEqual(bed.ended, []);
});

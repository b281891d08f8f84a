import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type EntryKind, Ledger } from './ledger.ts';
import { BACKEND } from './wire/messages.ts';

const code = (letter: string): number => letter.charCodeAt(0);

/** A model of the server: reads what is sent, in order, and answers as postgres.c does. */
function serve(sent: readonly { kind: EntryKind; fails: boolean }[]): { letter: string; answers: number }[] {
  const replies: { letter: string; answers: number }[] = [];
  let skipping = false;
  for (const [index, { kind, fails }] of sent.entries()) {
    const say = (letter: string): void => void replies.push({ letter, answers: index });
    if (skipping && kind !== 'Sync') continue;
    switch (kind) {
      case 'Sync':
        skipping = false;
        if (fails) say('E');
        say('Z');
        continue;
      case 'Query':
        if (fails) say('E');
        else for (const letter of 'TDDC') say(letter);
        say('Z');
        continue;
      default:
        if (fails) {
          say('E');
          skipping = true;
          continue;
        }
        for (const letter of {
          Parse: '1',
          Bind: '2',
          Close: '3',
          DescribeStatement: 'tT',
          DescribePortal: 'n',
          Execute: 'DC',
        }[kind])
          say(letter);
    }
  }
  return replies;
}

const sentMessages = fc.array(
  fc.record({
    kind: fc.constantFrom<EntryKind>(
      'Query',
      'Parse',
      'Bind',
      'DescribeStatement',
      'DescribePortal',
      'Execute',
      'Close',
      'Sync',
    ),
    fails: fc.boolean(),
  }),
  { maxLength: 40 },
);

test('every reply is attributed to the message it answers, however far the client runs ahead', () => {
  fc.assert(
    fc.property(sentMessages, fc.infiniteStream(fc.boolean()), (sent, ahead) => {
      const ledger = new Ledger<number>();
      const replies = serve(sent);
      let next = 0;
      for (const reply of replies) {
        // At least what is answered has been sent; perhaps more.
        while (next <= reply.answers || (next < sent.length && ahead.next().value === true)) {
          ledger.push(sent[next]!.kind, next);
          next += 1;
        }
        const attribution = ledger.reply(code(reply.letter));
        assert.equal(attribution.kind, 'Reply');
        if (attribution.kind === 'Reply') assert.equal(attribution.entry.value, reply.answers);
      }
      while (next < sent.length) {
        ledger.push(sent[next]!.kind, next);
        next += 1;
      }
      assert.equal(ledger.idle, true);
    }),
    { numRuns: 400 },
  );
});

test('a reply that fits nothing is Unexpected; an error that answers nothing is the server’s own', () => {
  const ledger = new Ledger<string>();
  assert.equal(ledger.reply(BACKEND.DataRow).kind, 'Unexpected');
  assert.equal(ledger.reply(BACKEND.ErrorResponse).kind, 'Unasked');
  ledger.push('Parse', 'p');
  for (const letter of '23tTnDCIsGHdcZ') assert.equal(ledger.reply(code(letter)).kind, 'Unexpected', letter);
  assert.equal(ledger.reply(BACKEND.ParseComplete).kind, 'Reply');
});

test('an error drops what the server skips and names it', () => {
  const ledger = new Ledger<string>();
  for (const [kind, name] of [
    ['Parse', 'a'],
    ['Bind', 'b'],
    ['Query', 'q'],
    ['Execute', 'c'],
    ['Sync', 's'],
  ] as const)
    ledger.push(kind, name);
  const attribution = ledger.reply(BACKEND.ErrorResponse);
  assert.equal(attribution.kind, 'Reply');
  if (attribution.kind === 'Reply')
    assert.deepEqual(
      attribution.dropped.map((entry) => entry.value),
      ['b', 'q', 'c'],
    );
  assert.equal(ledger.head?.value, 's');
});

test('what is sent after an unanswered error is skipped until a Sync', () => {
  const ledger = new Ledger<string>();
  ledger.push('Parse', 'a');
  ledger.reply(BACKEND.ErrorResponse);
  assert.equal(ledger.skipping, true);
  assert.equal(ledger.push('Query', 'q'), false);
  assert.equal(ledger.push('Sync', 's'), true);
  assert.equal(ledger.reply(BACKEND.ReadyForQuery).kind, 'Reply');
  assert.equal(ledger.idle, true);
});

test('Syncs between a COPY and the end of its data get no answer, those behind do', () => {
  const ledger = new Ledger<string>();
  ledger.push('Execute', 'copy');
  ledger.push('Sync', 'swallowed');
  ledger.reply(BACKEND.CopyInResponse);
  assert.equal(ledger.copyIn, true);
  ledger.noteCopyEnd();
  assert.equal(ledger.copyIn, false);
  ledger.push('Sync', 'answered');
  ledger.reply(BACKEND.CommandComplete);
  const attribution = ledger.reply(BACKEND.ReadyForQuery);
  assert.equal(attribution.kind === 'Reply' && attribution.entry.value, 'answered');
});

test('a client that sent all of its COPY data before being asked is followed too', () => {
  const ledger = new Ledger<string>();
  ledger.push('Query', 'copy');
  ledger.noteCopyEnd();
  ledger.push('Sync', 'answered');
  ledger.reply(BACKEND.CopyInResponse);
  assert.equal(ledger.copyIn, false);
  assert.equal(ledger.length, 2);
});

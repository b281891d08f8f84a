import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conditionName, rebuildError } from './errors.ts';

test('INV-06: an error is rebuilt from what cannot carry data', () => {
  const rebuilt = rebuildError([
    { code: 'S', value: 'ERROR' },
    { code: 'V', value: 'ERROR' },
    { code: 'C', value: '23505' },
    { code: 'M', value: 'duplicate key 4556737586899855' },
    { code: 'D', value: 'Key (number)=(4556737586899855) already exists.' },
    { code: 'H', value: '4556737586899855' },
    { code: 'P', value: '12' },
    { code: 'p', value: '3' },
    { code: 'q', value: "select '4556737586899855'" },
    { code: 'W', value: 'COPY cards, line 1: 4556737586899855' },
    { code: 's', value: 'public' },
    { code: 't', value: 'cards' },
    { code: 'c', value: 'number' },
    { code: 'd', value: 'text' },
    { code: 'n', value: 'cards_number_key' },
    { code: 'F', value: 'nbtinsert.c' },
    { code: 'L', value: '673' },
    { code: 'R', value: '_bt_check_unique' },
    { code: '?', value: '4556737586899855' },
  ]);
  assert.deepEqual(
    rebuilt.map(({ code, value }) => `${code}=${value}`),
    [
      'S=ERROR',
      'V=ERROR',
      'C=23505',
      'M=unique_violation',
      'P=12',
      's=public',
      't=cards',
      'c=number',
      'n=cards_number_key',
    ],
  );
});

test('INV-06: a code that a function made up says nothing', () => {
  const rebuilt = rebuildError([
    { code: 'C', value: '45567' },
    { code: 'M', value: '4556737586899855' },
    { code: 'n', value: '4556737586899855' },
  ]);
  assert.deepEqual(rebuilt, [
    { code: 'C', value: 'XX000' },
    { code: 'M', value: 'internal_error' },
    { code: 'n', value: '****************' },
  ]);
});

test('conditions have the names of the manual', () => {
  assert.equal(conditionName('22P02'), 'invalid_text_representation');
  assert.equal(conditionName('23999'), 'integrity_constraint_violation');
  assert.equal(conditionName('ZZZZZ'), 'error');
});

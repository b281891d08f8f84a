import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Condition } from '../api/schema.ts';
import { connectionState } from './connection-state.ts';

const of = (...conditions: [string, string, string, string][]) =>
  connectionState({
    status: {
      conditions: conditions.map(
        ([type, status, reason, message]) =>
          ({ type, status, reason, message, lastTransitionTime: '2026-03-01T09:00:00Z' }) as Condition,
      ),
    },
  });

test('a Connection’s state is the first thing to put right', () => {
  assert.deepEqual(connectionState({}), { word: 'Starting', problem: '' });
  const accepted: [string, string, string, string] = ['Accepted', 'True', 'Accepted', 'fine'];
  assert.deepEqual(of(accepted), { word: 'Starting', problem: '' });
  assert.deepEqual(of(accepted, ['Ready', 'True', 'Ready', 'answers']), { word: 'Ready', problem: '' });
  assert.deepEqual(of(accepted, ['Ready', 'False', 'TargetUnreachable', 'refused']), {
    word: 'TargetUnreachable',
    problem: 'refused',
  });
  // A file that can not be read says more than what the target of its former text answers.
  assert.deepEqual(
    of(['Ready', 'False', 'TargetUnreachable', 'refused'], ['Accepted', 'False', 'Broken', 'web.yaml:3: …']),
    { word: 'Broken', problem: 'web.yaml:3: …' },
  );
});

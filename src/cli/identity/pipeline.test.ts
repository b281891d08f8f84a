import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HoldView } from '../../portal/api-types.ts';
import type { Io } from '../io.ts';
import { afterHolds } from './pipeline.ts';
import { summary } from './renew.ts';

const hold = (phase: HoldView['phase']): HoldView => ({ name: 'h-1', phase, at: '', link: 'https://p/holds/h-1' });

test('what a job ends with: its client’s code, unless a statement of it waits or was denied', () => {
  let said = '';
  const io = { err: (text: string) => void (said += text) } as unknown as Io;
  assert.equal(afterHolds({ io }, [], 3), 3);
  assert.equal(afterHolds({ io }, [hold('Approved'), hold('Withdrawn')], 0), 0);
  assert.equal(said, '');
  assert.equal(afterHolds({ io }, [hold('Approved'), hold('TimedOut')], 0), 75);
  assert.match(said, /https:\/\/p\/holds\/h-1/);
  assert.equal(afterHolds({ io }, [hold('TimedOut'), hold('Denied')], 3), 77);
});

test('of several renewals the earliest end counts, and the worst refusal', () => {
  const refused = (code: 'NoSession' | 'InvalidProof' | 'NotNewer' | 'LimitReached') =>
    ({ kind: 'Refused', code, message: 'm' }) as const;
  assert.deepEqual(summary([]), { kind: 'Nobody' });
  assert.deepEqual(summary([refused('NoSession'), { kind: 'Cut', message: 'c' }]), { kind: 'Nobody' });
  assert.deepEqual(summary([refused('NotNewer'), refused('NoSession')]), { kind: 'Known' });
  assert.deepEqual(summary([{ kind: 'Renewed', endsAtMs: 9 }, { kind: 'Renewed' }, { kind: 'Renewed', endsAtMs: 5 }]), {
    kind: 'Renewed',
    endsAtMs: 5,
  });
  assert.deepEqual(summary([{ kind: 'Renewed' }]), { kind: 'Renewed' });
  assert.deepEqual(summary([{ kind: 'Renewed', endsAtMs: 9 }, refused('InvalidProof')]), {
    kind: 'Failed',
    message: 'm',
    final: true,
  });
  assert.deepEqual(summary([refused('LimitReached')]), { kind: 'Failed', message: 'm', final: false });
});

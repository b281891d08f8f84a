import assert from 'node:assert/strict';
import test from 'node:test';
import type { AccessApproval, AccessGrant } from '../../api/grant.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { AccessSession } from '../../api/session.ts';
import {
  approvalFate,
  EMERGENCY_KEPT_MS,
  GRANT_KEPT_MS,
  grantFate,
  HOLD_KEPT_MS,
  holdFate,
  ORPHAN_KEPT_MS,
  SESSION_KEPT_MS,
  sessionFate,
} from './decide.ts';

const at = Date.parse('2026-01-01T00:00:00Z');
const moment = new Date(at).toISOString();
const object = <T>(spec: object, status?: object): T =>
  ({ metadata: { name: 'x', creationTimestamp: moment }, spec, status }) as T;
const session = (status?: object): AccessSession => object({ replica: 'sallyport-a-0' }, status);
const grant = (status: object | undefined, spec = {}): AccessGrant => object(spec, status);

test('a live session is lost once its replica is gone, but not before it was ever told of', () => {
  for (const status of [undefined, { phase: 'Live' }]) {
    assert.deepEqual(sessionFate(session(status), true, at + 1e9), { kind: 'Keep' });
    assert.deepEqual(sessionFate(session(status), false, at + 30_000), { kind: 'Keep' });
    assert.deepEqual(sessionFate(session(status), false, at + 61_000), {
      kind: 'Lost',
      reason: 'its proxy sallyport-a-0 is gone',
    });
  }
});

test('an ended session is kept for an hour', () => {
  for (const phase of ['Ended', 'Lost']) {
    const ended = session({ phase, endedAt: moment });
    assert.equal(sessionFate(ended, false, at + SESSION_KEPT_MS).kind, 'Keep');
    assert.equal(sessionFate(ended, true, at + SESSION_KEPT_MS + 1).kind, 'Delete');
  }
});

test('a grant that may still be used is never deleted, whatever its age', () => {
  for (const status of [undefined, { phase: 'Pending' }, { phase: 'Active', expiresAt: moment }])
    assert.equal(grantFate(grant(status), false, at + 1e12).kind, 'Keep');
  assert.equal(grantFate(grant({ phase: 'Expired', finishedAt: 'nonsense' }), false, at + 1e12).kind, 'Keep');
});

test('a finished grant is kept for a week, an emergency for longer, one that is continued for as long as that', () => {
  for (const phase of ['Denied', 'Expired', 'Revoked']) {
    const over = { phase, finishedAt: moment };
    assert.equal(grantFate(grant(over), false, at + GRANT_KEPT_MS).kind, 'Keep');
    assert.equal(grantFate(grant(over), false, at + GRANT_KEPT_MS + 1).kind, 'Delete');
    assert.equal(grantFate(grant(over), true, at + GRANT_KEPT_MS + 1).kind, 'Keep');
    const due = { ...over, expiresAt: moment };
    const signed = { ...due, signOff: { by: 'sam', approval: { name: 'a', uid: 'u' }, at: moment } };
    assert.equal(grantFate(grant(due, { breakGlass: true }), false, at + 1e12).kind, 'Keep', 'its review is due');
    assert.equal(grantFate(grant(signed, { breakGlass: true }), false, at + GRANT_KEPT_MS + 1).kind, 'Keep');
    assert.equal(grantFate(grant(signed, { breakGlass: true }), false, at + EMERGENCY_KEPT_MS + 1).kind, 'Delete');
    assert.equal(grantFate(grant(over, { breakGlass: true }), false, at + EMERGENCY_KEPT_MS + 1).kind, 'Delete');
  }
});

test('a hold goes a week after its decision, an approval an hour after its target', () => {
  const hold = (status?: object): CommandHold => object({ until: moment }, status);
  assert.equal(holdFate(hold({ phase: 'Waiting' }), at + 1e12).kind, 'Keep');
  assert.equal(holdFate(hold({ phase: 'Approved', decidedAt: moment }), at + HOLD_KEPT_MS).kind, 'Keep');
  assert.equal(holdFate(hold({ phase: 'TimedOut' }), at + HOLD_KEPT_MS + 1).kind, 'Delete');
  const approval: AccessApproval = object({ targetRef: { kind: 'AccessGrant', name: 'g', uid: 'u' } });
  assert.equal(approvalFate(approval, 'u', at + 1e12).kind, 'Keep');
  assert.equal(approvalFate(approval, undefined, at + ORPHAN_KEPT_MS).kind, 'Keep');
  assert.equal(approvalFate(approval, undefined, at + ORPHAN_KEPT_MS + 1).kind, 'Delete');
  assert.equal(approvalFate(approval, 'made-anew', at + ORPHAN_KEPT_MS + 1).kind, 'Delete');
});

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { constantMembers, type SessionRecorder } from '../recording/recorder.ts';
import { systemClock } from '../system/clock.ts';
import { trackActivity } from './activity.ts';

function tracked() {
  const socket = { bytesRead: 0, bytesWritten: 0 };
  let monotonic = 0;
  const clock = { ...systemClock, monotonic: () => monotonic };
  const activity = trackActivity(socket as Socket, clock);
  const inner: SessionRecorder = {
    append: () => undefined,
    whenWritten: () => undefined,
    writable: true,
    close: () => undefined,
  };
  const record = activity.recorder(inner);
  const command = (id: number, action: string, ...object: string[]): void =>
    record.append('command', { id, decision: 'Allow', effects: [{ action, object }] });
  const pass = (ms: number): number => {
    monotonic += ms;
    activity.sample();
    return activity.idleMs();
  };
  return { socket, record, command, pass };
}

test('who waits for a result is not idle', () => {
  const { record, command, pass } = tracked();
  command(1, 'Execute', 'sleep');
  assert.equal(pass(10_000), 0);
  record.append('result', { id: 1 });
  assert.equal(pass(10_000), 10_000);
});

test('a command may have its effects among the members that records share, or none at all', () => {
  for (const [constant, idle] of [
    [constantMembers({ effects: [{ action: 'Read', object: ['public', 'orders'] }] }), 0],
    [constantMembers({ effects: [{ action: 'Session', object: ['shell'] }] }), 10_000],
    [undefined, 0],
  ] as const) {
    const { record, pass } = tracked();
    record.append('command', { id: 1, decision: 'Allow' }, undefined, constant);
    assert.equal(pass(10_000), idle);
  }
});

test('a shell and a forward last without being used: their bytes tell', () => {
  for (const effect of [
    ['Session', 'shell'],
    ['Connect', 'tcp', '10.0.0.1:443'],
    ['Connect', 'listen', '127.0.0.1:80'],
    ['Connect', 'socket', '/run/x'],
    ['Session', 'agent'],
  ] as const) {
    const { socket, command, pass } = tracked();
    const [action, ...object] = effect;
    command(1, action, ...object);
    assert.equal(pass(10_000), 10_000, effect.join(' '));
    socket.bytesRead += 1;
    assert.equal(pass(10_000), 0, effect.join(' '));
  }
});

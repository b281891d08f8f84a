// The corpus of test/acceptance/leaks.ts, each attack in one way, turn by turn another.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Scene } from '../support/scene.ts';
import { WAYS } from './leaks/play.ts';
import { type Outcome, playCorpus, startLeakScene } from './leaks/run.ts';

let scene: Scene;
let outcome: Outcome;

before(async () => {
  scene = await startLeakScene();
  outcome = await playCorpus(scene, (index) => [WAYS[index % WAYS.length]!]);
});
after(() => scene?.stop());

test('INV-06: no attack gets a masked value out, to a client, a record or a log', () => {
  assert.ok(outcome.attacks >= 60);
  assert.ok(outcome.refused > 0);
  assert.ok(outcome.masked > 0);
  assert.deepEqual(outcome.leaked, []);
});

test('INV-06: guesses are refused, what can be masked is masked and not refused', () => {
  assert.deepEqual(outcome.broken, []);
});

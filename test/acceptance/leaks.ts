// Masked values stay in: the corpus of attacks through the real daemon, in every way a client can send a statement.
import assert from 'node:assert/strict';
import { WAYS } from '../hostile/leaks/play.ts';
import { type Outcome, playCorpus, startLeakScene } from '../hostile/leaks/run.ts';
import type { Scene } from '../support/scene.ts';
import type { CriteriaGroup } from './criterion.ts';

let scene: Scene;
let outcome: Outcome;

export const leaks: CriteriaGroup = {
  name: 'leaks',
  async start() {
    scene = await startLeakScene();
  },
  criteria: [
    {
      claim: 'INV-06: no attack gets a masked value out, to a client, a record or a log',
      async check() {
        outcome = await playCorpus(scene, () => WAYS);
        const { attacks, played, refused, masked, leaked } = outcome;
        const figure = `${attacks} statements and sequences, ${played} plays over ${WAYS.join(', ')} and raw messages: refused ${refused}, results masked ${masked}, leaked ${leaked.length}`;
        assert.ok(attacks >= 60);
        assert.ok(masked > 0 && refused > 0, figure);
        assert.equal(
          leaked.length,
          0,
          `${figure}\n${leaked
            .slice(0, 20)
            .map((leak) => `${leak.way}: ${leak.attack.slice(0, 200)}: ${leak.canaries.slice(0, 3).join(', ')}`)
            .join('\n')}`,
        );
        return figure;
      },
    },
    {
      claim: 'INV-06: guesses are refused, what can be masked is masked and not refused',
      async check() {
        assert.ok(outcome, 'the attacks were played');
        assert.deepEqual(outcome.broken, []);
        return `${outcome.broken.length} of ${outcome.played} plays otherwise`;
      },
    },
  ],
  async stop() {
    await scene?.stop();
  },
};

// Masking against real servers: every attack is refused or shows nothing, and nothing harmless is refused.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import { EXTRACTIONS, MASKED, ORACLES } from './masking/attacks.ts';
import { HARMLESS } from './masking/harmless.ts';
import { type Outcome, openPlayer, type Player, type Step } from './masking/harness.ts';
import { CARDS, leaks, MASKS, SETUP } from './masking/schema.ts';

type Attack = string | Step | readonly (string | Step)[];
const steps = (attack: Attack): readonly (string | Step)[] =>
  Array.isArray(attack) ? attack : [attack as string | Step];
const title = (attack: Attack): string =>
  steps(attack)
    .map((step) => (typeof step === 'string' ? step : `${step.sql}${step.binary ? ' (binary)' : ''}`))
    .join('; ')
    .slice(0, 160);
const seen = (outcome: Outcome): string => outcome.shown.toString('latin1').slice(0, 2000);

for (const major of [18, 15] as const) {
  describe(`PostgreSQL ${major}`, () => {
    let server: PostgresServer;
    let player: Player;
    before(async () => {
      server = await startPostgres({ major, auth: 'trust', setup: SETUP });
      player = await openPlayer({ port: server.port, user: 'app', database: 'postgres', masks: MASKS });
    });
    after(async () => {
      player?.close();
      await server?.stop();
    });

    test('INV-06: the canaries are there to be seen, without masks', async () => {
      const open = await openPlayer({ port: server.port, user: 'app', database: 'postgres', masks: [] });
      try {
        const outcome = await open.play(['select * from cards', 'select * from customers']);
        assert.ok(leaks(outcome.shown).length > 10);
      } finally {
        open.close();
      }
    });

    for (const { attack, values } of MASKED) {
      test(`INV-06: masked, not refused: ${title(attack)}`, async () => {
        const outcome = await player.play(steps(attack));
        assert.deepEqual(outcome.refused, []);
        assert.deepEqual(outcome.errors, []);
        assert.deepEqual(leaks(outcome.shown), [], seen(outcome));
        assert.equal(outcome.masked, values);
      });
    }
    for (const attack of HARMLESS) {
      test(`INV-06: harmless, not refused: ${title(attack)}`, async () => {
        const outcome = await player.play(steps(attack));
        assert.deepEqual(outcome.refused, []);
        if (!title(attack).includes('pg_publication_namespace')) assert.deepEqual(outcome.errors, []);
        assert.deepEqual(leaks(outcome.shown), [], seen(outcome));
      });
    }
    for (const attack of ORACLES) {
      test(`INV-06: no guessing: ${title(attack)}`, async () => {
        const outcome = await player.play(steps(attack));
        assert.ok(outcome.refused.length > 0, seen(outcome));
        assert.deepEqual(leaks(outcome.shown), []);
      });
    }
    for (const attack of EXTRACTIONS) {
      test(`INV-06: no way out: ${title(attack)}`, async () => {
        const outcome = await player.play(steps(attack));
        assert.deepEqual(leaks(outcome.shown), [], seen(outcome));
      });
    }

    test('INV-06: the attacks left the masked tables as they were', async () => {
      const { rows } = await server.query('select number from sales.cards where id <= 3 order by id');
      assert.deepEqual(
        rows.map((row: { number: string }) => row.number),
        [...CARDS],
      );
    });
  });
}

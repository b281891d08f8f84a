// Several policies over one Connection: the strictest holds, and one that can not be understood closes it. INV-02, INV-06.
import assert from 'node:assert/strict';
import type { Client } from 'pg';
import type { Criterion } from '../../acceptance/criterion.ts';
import { ok, until } from '../../support/cluster/sallyport.ts';
import { api, policyOf, type SecurityScene } from './scene.ts';

const CARD = '4111111111111111';
const AUDITORS = { subjects: [{ kind: 'Group', name: 'auditors' }] };

export function policyCriteria(scene: () => SecurityScene): Criterion[] {
  const number = async (client: Client): Promise<string> =>
    (await client.query<{ number: string }>('select number from cards')).rows[0]!.number;
  const untilSees = (client: Client, what: (text: string) => boolean): Promise<string> =>
    until('what the session sees', async () => {
      const seen = await number(client).catch(
        (error: Error & { detail?: string }) => `${error.message} ${error.detail ?? ''}`,
      );
      return what(seen) && seen;
    });
  return [
    {
      claim: 'INV-06: one policy’s masks hold under another’s grant, in the session that is open',
      async check() {
        const { as } = scene();
        const client = await scene().loginSoon(await scene().held());
        assert.equal(await number(client), CARD);
        const masking = [{ name: 'cards', columns: ['*.cards.number'], with: 'Last4' }];
        ok(await as('ann').create(api('accesspolicies'), policyOf('cards', ['orders'], { ...AUDITORS, masking })));
        const masked = await untilSees(client, (seen) => seen !== CARD);
        assert.match(masked, /^\D*1111$/);
        for (const sql of ["select number || 'x' as n from cards", 'select md5(number) as n from cards']) {
          const rows = await client.query(sql).then(({ rows: found }) => JSON.stringify(found), String);
          assert.ok(!rows.includes(CARD) && !rows.includes('49bd8055'), rows);
        }
        const again = await scene().loginSoon(await scene().held());
        assert.equal(await number(again), masked);
        await again.end();
        await client.end();
        return `${CARD} is ${masked}`;
      },
    },
    {
      claim:
        'INV-02: of two policies one made invalid: what it selects denies everything and says so; fixed, it works, no restart',
      async check() {
        const { as, proxy, sallyport, admin } = scene();
        const pids = [proxy.pid, sallyport.operators[0]!.pid];
        const client = await scene().loginSoon(await scene().held());
        await number(client);
        const spoil = (maxDuration: string): Promise<unknown> =>
          as('ann').patch(api('accesspolicies', 'cards'), { spec: { maxDuration } }, 'merge').then(ok);
        await spoil('99999h');
        const told = await untilSees(client, (seen) => seen.includes('Sallyport'));
        assert.match(told, /cards/);
        for (const sql of ['select 1', 'show server_version', "select 'nothing of the table'"])
          await assert.rejects(client.query(sql), /Sallyport/, sql);
        const accepted = await until('the policy to say so', async () => {
          const condition = await scene().condition('accesspolicies', 'cards', 'Accepted');
          return condition.status === 'False' && condition;
        });
        assert.match(accepted.message, /maxDuration/);
        const connection = await until('the Connection to say so', async () => {
          const { status } = ok(await admin.get<{ status: object }>(api('connections', 'orders')));
          return /cards/.test(JSON.stringify(status)) && JSON.stringify(status);
        });
        assert.ok(connection.length > 0);
        // A new request can not be granted under it either; what is selected by neither goes on.
        assert.notEqual((await scene().condition('connections', 'vault', 'Accepted')).status, 'False');
        await spoil('8h');
        const seen = await untilSees(client, (text) => !text.includes('Sallyport'));
        assert.match(seen, /1111$/);
        await client.end();
        assert.deepEqual([proxy.pid, sallyport.operators[0]!.pid], pids);
        ok(await as('ann').delete(api('accesspolicies', 'cards')));
        return `told: ${told.slice(0, 120)}`;
      },
    },
  ];
}

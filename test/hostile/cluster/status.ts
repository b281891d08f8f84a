// Status is not authority: a cluster-admin who gets past admission as the operator itself writes what he likes into it,
// and opens nothing. INV-08, INV-10.
import assert from 'node:assert/strict';
import type { AccessGrant } from '../../../src/api/grant.ts';
import type { Criterion } from '../../acceptance/criterion.ts';
import { ok, until } from '../../support/cluster/sallyport.ts';
import { type Asked, api, refused, type SecurityScene } from './scene.ts';

export function statusCriteria(scene: () => SecurityScene): Criterion[] {
  const statusPath = ({ metadata }: AccessGrant): string => `${api('accessgrants', metadata.name)}/status`;
  const active = (like: AccessGrant): object => ({
    status: {
      ...like.status,
      phase: 'Active',
      notBefore: new Date(Date.now() - 60_000).toISOString(),
      expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
    },
  });
  /** What somebody may write into it: Active without a seal, and with the seal of a grant that is. */
  const forgeries = async (victim: AccessGrant): Promise<object[]> => {
    const good = await scene().held();
    const sealed = await scene().grant(good.grant.metadata.name);
    return [active(victim), active(sealed), { status: sealed.status }];
  };
  const overwrites = async (grant: AccessGrant, body: object): Promise<void> => {
    ok(await scene().usurper.patch(statusPath(grant), body, 'merge'));
  };
  const putRight = async (asked: Asked, phase: string, why: string): Promise<void> => {
    await scene().untilPhase(asked.grant, phase, 40_000);
    await scene().noLogin(asked, why);
  };
  return [
    {
      claim: 'INV-08: a status that a cluster-admin patched to Active opens nothing, with the operator running',
      async check() {
        const { admin, as, ask, usurper } = scene();
        const asked = await ask('alice');
        const pending = await scene().untilPhase(asked.grant, 'Pending');
        for (const client of [admin, as('eve'), as('bob')]) {
          refused(
            await client.patch(statusPath(asked.grant), active(pending), 'merge'),
            /Only Sallyport's operator|is forbidden/,
          );
          refused(
            await client.patch(
              statusPath(asked.grant),
              {
                apiVersion: pending.apiVersion,
                kind: pending.kind,
                metadata: { name: pending.metadata.name },
                ...active(pending),
              },
              'apply',
              { fieldManager: 'sallyport', force: true },
            ),
            /Only Sallyport's operator|is forbidden/,
          );
        }
        // As the operator's ServiceAccount in its pod, which only who may impersonate anybody can be.
        for (const body of await forgeries(pending)) {
          await overwrites(asked.grant, body);
          await putRight(asked, 'Pending', 'a forged status');
        }
        // What ended stays ended, and what runs is not prolonged.
        const over = await scene().held();
        await scene().vote('carol', over.grant, 'Revoke');
        const revoked = await scene().untilPhase(over.grant, 'Revoked');
        await overwrites(over.grant, active(revoked));
        await putRight(over, 'Revoked', 'a grant revived by its status');
        const brief = await scene().held({ duration: '2m' });
        const before = await scene().grant(brief.grant.metadata.name);
        ok(await usurper.patch(statusPath(brief.grant), { status: { expiresAt: '2099-01-01T00:00:00Z' } }, 'merge'));
        await until('the end to be as decided', async () => {
          const { status } = await scene().grant(brief.grant.metadata.name);
          return status?.expiresAt === before.status!.expiresAt && status?.phase === 'Active';
        });
        return '5 forged statuses decided again, no login';
      },
    },
    {
      claim: 'INV-08: nor when it was patched while the operator was dead, before and after its restart',
      async check() {
        const { ask, sallyport } = scene();
        const asked = await ask('alice');
        const pending = await scene().untilPhase(asked.grant, 'Pending');
        const [first, second] = await forgeries(pending);
        const late = await scene().held();
        await scene().vote('carol', late.grant, 'Revoke');
        const revoked = await scene().untilPhase(late.grant, 'Revoked');
        const [operator] = sallyport.operators;
        await operator!.end();
        await overwrites(asked.grant, first!);
        await overwrites(late.grant, active(revoked));
        await scene().noLogin(asked, 'a status forged while nobody looked');
        await overwrites(asked.grant, second!);
        await sallyport.freeLease();
        await operator!.start();
        await putRight(asked, 'Pending', 'a status forged before the restart');
        // Its own seal is gone: what is proven is a request, and Carol's revocation of it.
        await until('the revived grant to be denied again', async () => {
          const { status } = await scene().grant(late.grant.metadata.name);
          return status?.phase === 'Denied' || status?.phase === 'Revoked';
        });
        await scene().noLogin(late, 'a grant revived while nobody looked');
        await scene().vote('carol', asked.grant);
        await scene().untilPhase(asked.grant, 'Active');
        const client = await scene().loginSoon(asked);
        await client.end();
        assert.ok(operator!.running);
        return '3 statuses decided again after kill -9; then a real approval let alice in';
      },
    },
  ];
}

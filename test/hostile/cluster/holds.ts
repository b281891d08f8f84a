// A proxy that fell into somebody's hands: it may tell of held commands, and tries to have consent given for another's
// sessions, by approvers it names itself. INV-08, INV-12.
import assert from 'node:assert/strict';
import { specHash } from '../../../src/api/canonical.ts';
import type { CommandHold } from '../../../src/api/hold.ts';
import type { Criterion } from '../../acceptance/criterion.ts';
import { podClient } from '../../support/chart.ts';
import { ok, until } from '../../support/cluster/sallyport.ts';
import { api, refused, type SecurityScene, SHOP } from './scene.ts';

const HASH = 'b'.repeat(64);

export function holdCriteria(scene: () => SecurityScene): Criterion[] {
  return [
    {
      claim: 'INV-12: a proxy in wrong hands gets no consent for a command of another’s session',
      async check() {
        const { plane, admin, connection, as } = scene();
        const victim = await scene().held();
        const { name, uid } = victim.grant.metadata;
        const hold = (replica: string, to: string): object => ({
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'CommandHold',
          metadata: { generateName: 'h-', labels: { 'sallyport.dev/replica': replica } },
          spec: {
            connectionRef: { name: to },
            grantRef: { name, uid },
            sessionId: 's-1',
            requester: { username: 'somebody-else' },
            command: 'select 1',
            hiddenLiterals: 0,
            commandHash: HASH,
            rules: [{ policy: `${SHOP}/orders-team`, rule: 'all' }],
            reason: 'r',
            // Whoever is at hand; not alice, whose grant it is, whatever the proxy says.
            requirements: [{ rule: 'all', count: 1, approvers: [{ kind: 'User', name: 'bob' }] }],
            requestedAt: new Date().toISOString(),
            until: new Date(Date.now() + 60_000).toISOString(),
          },
        });
        const approve = async (made: CommandHold, user: string): Promise<CommandHold> => {
          const { metadata, spec } = made;
          ok(
            await as(user).create(api('accessapprovals'), {
              apiVersion: 'sallyport.dev/v1alpha1',
              kind: 'AccessApproval',
              metadata: { generateName: 'a-' },
              spec: {
                targetRef: { kind: 'CommandHold', name: metadata.name, uid: metadata.uid },
                specHash: specHash(spec),
                decision: 'Approve',
              },
            }),
          );
          return until('the decision', async () => {
            const seen = ok(await admin.get<CommandHold>(api('commandholds', metadata.name)));
            return seen.status?.decidedAt !== undefined && seen;
          });
        };
        const thief = await podClient(plane, {
          namespace: SHOP,
          name: 'sallyport-vault-0',
          serviceAccount: 'sallyport-vault',
        });
        try {
          refused(await thief.create(api('commandholds'), hold('sallyport-orders-0', 'orders')), /must name the proxy/);
          const forged = ok(await thief.create<CommandHold>(api('commandholds'), hold('sallyport-vault-0', 'orders')));
          const decided = await approve(forged, 'bob');
          assert.equal(decided.status?.phase, 'Denied', JSON.stringify(decided.status));
          assert.match(decided.status?.reason ?? '', /does not serve Connection orders/);
          const releases = ok(
            await admin.get<{ spec: { payload: string } }>(
              api('enforcementbundles', `${connection.metadata.uid}.releases`),
            ),
          ).spec.payload;
          assert.ok(!/"Approved"/.test(releases), releases);
          // Of its own Connection it is believed: it has that one's credentials anyway.
          const own = ok(await thief.create<CommandHold>(api('commandholds'), hold('sallyport-vault-0', 'vault')));
          assert.equal((await approve(own, 'bob')).status?.phase, 'Approved');
          return 'refused at admission under another’s name, denied by the operator under its own';
        } finally {
          await thief.close();
          await admin.delete(`/api/v1/namespaces/${SHOP}/pods/sallyport-vault-0`);
        }
      },
    },
  ];
}

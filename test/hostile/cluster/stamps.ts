// Who asked and who voted: forged, replayed, counted twice, too late. INV-08.
import assert from 'node:assert/strict';
import https from 'node:https';
import { specHash } from '../../../src/api/canonical.ts';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import type { Stamp } from '../../../src/api/schema.ts';
import type { KubeClient } from '../../../src/kube/client.ts';
import type { Criterion } from '../../acceptance/criterion.ts';
import { ok, until } from '../../support/cluster/sallyport.ts';
import { api, refused, type SecurityScene, sleep } from './scene.ts';

const CONFIGURATIONS = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';
const grantBody = (more: object = {}): object => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'AccessGrant',
  metadata: { generateName: 'forged-' },
  spec: { connectionRef: { name: 'orders' }, duration: '1h', ...more },
});
const voteSpec = ({ metadata, spec }: AccessGrant): object => ({
  targetRef: { kind: 'AccessGrant', name: metadata.name, uid: metadata.uid },
  specHash: specHash(spec),
  decision: 'Approve',
});
const voteBody = (spec: object): object => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'AccessApproval',
  metadata: { generateName: 'forged-' },
  spec,
});

/** Whoever reaches the webhook's port can ask it for a seal in anybody's name: it can not tell who asks. */
async function sealedFor(
  port: number,
  user: { username: string; uid: string; groups: string[] },
  spec: object,
): Promise<Stamp> {
  const review = {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u-1',
      kind: { group: 'sallyport.dev', version: 'v1alpha1', kind: 'AccessApproval' },
      resource: { group: 'sallyport.dev', version: 'v1alpha1', resource: 'accessapprovals' },
      operation: 'CREATE',
      namespace: 'shop',
      userInfo: user,
      object: { apiVersion: 'sallyport.dev/v1alpha1', kind: 'AccessApproval', metadata: { name: 'x' }, spec },
    },
  };
  const text = await new Promise<string>((resolve, reject) => {
    const request = https.request(
      {
        host: '127.0.0.1',
        port,
        path: '/stamp',
        method: 'POST',
        rejectUnauthorized: false,
        headers: { 'content-type': 'application/json' },
      },
      (response) => {
        let body = '';
        response.on('data', (part: Buffer) => (body += part.toString()));
        response.on('end', () => resolve(body));
      },
    );
    request.on('error', reject);
    request.end(JSON.stringify(review));
  });
  const { response } = JSON.parse(text) as { response: { patch: string } };
  const [operation] = JSON.parse(Buffer.from(response.patch, 'base64').toString()) as { value: Stamp }[];
  return operation!.value;
}

export function stampCriteria(scene: () => SecurityScene): Criterion[] {
  /** Its votes are told, it stays Pending, and the proxy lets nobody in. */
  const stillPending = async (
    { grant, key }: { grant: AccessGrant; key: Parameters<SecurityScene['noLogin']>[0]['key'] },
    why: string,
  ): Promise<void> => {
    assert.equal((await scene().grant(grant.metadata.name)).status?.phase, 'Pending', why);
    await scene().noLogin({ grant, key }, why);
  };
  return [
    {
      claim:
        'INV-08: a requester or approver that somebody forged gets nowhere, not even with a seal of the webhook’s own',
      async check() {
        const { as, ask, admin, plane, sallyport } = scene();
        const { grant, key } = await ask('alice');
        await scene().untilPhase(grant, 'Pending');
        let tries = 0;
        const fails = async (client: KubeClient, plural: string, body: object): Promise<void> => {
          tries += 1;
          refused(
            await client.create(api(plural), body),
            /never by the author|names somebody else|is forbidden/,
            [403, 422],
          );
        };
        const theirs = grant.spec.requester!;
        const bob = { ...theirs, username: 'bob', uid: 'uid-bob', groups: ['payments', 'dba', 'system:authenticated'] };
        for (const requester of [bob, theirs, { username: 'bob', via: 'Local' }, { via: 'Portal', username: 'bob' }]) {
          for (const client of [as('alice'), admin]) await fails(client, 'accessgrants', grantBody({ requester }));
        }
        for (const approver of [bob, theirs]) {
          for (const client of [as('bob'), as('alice'), admin])
            await fails(client, 'accessapprovals', voteBody({ ...voteSpec(grant), approver }));
        }
        // The webhook answers whoever reaches it; what it seals is worth nothing in another's request.
        const carol = { username: 'carol', uid: 'uid-carol', groups: ['dba', 'system:authenticated'] };
        const webhook = ok(
          await admin.get<{ webhooks: { clientConfig: { service: { port: number } } }[] }>(
            `${CONFIGURATIONS}/sallyport`,
          ),
        ).webhooks[0]!.clientConfig.service.port;
        const approver = await sealedFor(webhook, carol, voteSpec(grant));
        assert.equal(approver.username, 'carol');
        for (const client of [as('bob'), as('alice'), admin])
          await fails(client, 'accessapprovals', voteBody({ ...voteSpec(grant), approver }));
        // With the webhook out of the way the policies still know who sent it.
        const withoutWebhook = await withdrawWebhook(scene());
        try {
          for (const client of [as('bob'), admin])
            await fails(client, 'accessapprovals', voteBody({ ...voteSpec(grant), approver }));
        } finally {
          await withoutWebhook();
        }
        // Impersonation is what RBAC lets it be: the request is that person's, and alice may not.
        const { createKubeClient } = await import('../../../src/kube/client.ts');
        const { impersonating } = await import('../../../src/kube/access.ts');
        const worn = createKubeClient(impersonating(plane.access('alice'), { username: 'carol', groups: ['dba'] }));
        await fails(worn, 'accessapprovals', voteBody(voteSpec(grant)));
        await worn.close();
        await stillPending({ grant, key }, 'after forged votes');
        assert.ok((await sallyport.leader())?.running);
        return `${tries} forgeries refused`;
      },
    },
    {
      claim: 'INV-08: nobody approves their own request: by uid, by username, with both uids empty',
      async check() {
        const { ask, vote, verdict } = scene();
        const pairs: [string, string][] = [
          ['bob', 'bob'],
          ['bob', 'bob-renamed'],
          ['nora', 'nora'],
        ];
        for (const [requester, voter] of pairs) {
          const asked = await ask(requester);
          if (requester === 'nora') assert.equal(asked.grant.spec.requester?.uid, undefined, 'nora has a uid');
          const mine = await vote(voter, asked.grant);
          assert.equal(await verdict(mine), 'Requester', `${voter} for ${requester}`);
          await stillPending(asked, `${voter} approved what ${requester} asked for`);
          // Somebody else's vote counts all the same.
          await vote('carol', asked.grant);
          await scene().untilPhase(asked.grant, 'Active');
        }
        return `${pairs.length} of ${pairs.length} excluded`;
      },
    },
    {
      claim: 'INV-08: two approvals by one person count once: the same name, the same uid, a name that looks the same',
      async check() {
        const { ask, vote, verdict } = scene();
        const asked = await ask('alice', { connection: 'vault' });
        assert.equal(await verdict(await vote('carol', asked.grant)), 'Counted');
        for (const again of ['carol', 'carol2', 'Ｃarol'])
          assert.equal(await verdict(await vote(again, asked.grant)), 'VotedAlready', again);
        assert.equal((await scene().grant(asked.grant.metadata.name)).status?.phase, 'Pending');
        assert.equal(await verdict(await vote('dan', asked.grant)), 'Counted');
        await scene().untilPhase(asked.grant, 'Active');
        return '4 votes of one person, 1 counted';
      },
    },
    {
      claim: 'INV-08: an approval after the time-out opens nothing, however often it comes',
      async check() {
        const { ask, vote, verdict } = scene();
        const asked = await ask('alice', { connection: 'quick' });
        await scene().untilPhase(asked.grant, 'Pending');
        await sleep(2_100);
        const late = await vote('carol', asked.grant);
        assert.equal(await verdict(late), 'TooLate');
        const seen = await scene().untilPhase(asked.grant, 'Expired');
        assert.equal(await verdict(await vote('dan', asked.grant)), 'TooLate');
        assert.equal((await scene().grant(asked.grant.metadata.name)).status?.phase, 'Expired');
        return `Expired at ${seen.status?.finishedAt}, votes 0`;
      },
    },
    {
      claim: 'INV-08: an approval is good for one object: not for one that was deleted and made again under its name',
      async check() {
        const { ask, vote, verdict, as, admin } = scene();
        const first = await ask('alice', { name: 'replayed' });
        const approval = await vote('carol', first.grant);
        await scene().untilPhase(first.grant, 'Active');
        ok(await admin.delete(api('accessgrants', 'replayed')));
        const again = ok(
          await as('alice').create<AccessGrant>(api('accessgrants'), {
            apiVersion: 'sallyport.dev/v1alpha1',
            kind: 'AccessGrant',
            metadata: { name: 'replayed' },
            spec: {
              connectionRef: { name: 'orders' },
              duration: '1h',
              reason: 'INC-1234',
              clientKey: first.key.publicKey,
            },
          }),
        );
        await scene().untilPhase(again, 'Pending');
        const known = ok(await admin.get<AccessApproval>(api('accessapprovals', approval.metadata.name)));
        // The vote itself, sent again by whoever can read it.
        const { approver, ...rest } = known.spec;
        for (const user of ['bob', 'carol']) {
          refused(
            await as(user).create(api('accessapprovals'), voteBody({ ...rest, approver })),
            /never by the author/,
            [422],
          );
          assert.equal(
            await verdict(ok(await as(user).create<AccessApproval>(api('accessapprovals'), voteBody(rest)))),
            'Invalid',
          );
        }
        const rebound = { ...rest, targetRef: { ...rest.targetRef, uid: again.metadata.uid } };
        refused(
          await as('bob').create(api('accessapprovals'), voteBody({ ...rebound, approver })),
          /never by the author/,
          [422],
        );
        // Carol herself may vote for the new one, of course.
        assert.equal(
          await verdict(ok(await as('carol').create<AccessApproval>(api('accessapprovals'), voteBody(rebound)))),
          'Counted',
        );
        ok(await admin.delete(api('accessgrants', 'replayed')));
        return 'the old vote and its copies counted nowhere';
      },
    },
    {
      claim: 'INV-08: with the webhook deleted nothing is requested or approved, and GitOps goes on',
      async check() {
        const { as, ask, admin } = scene();
        const asked = await ask('alice');
        const restore = await withdrawWebhook(scene());
        try {
          const unstamped = /without a stamp of who made it/;
          for (const client of [as('alice'), admin]) {
            refused(await client.create(api('accessgrants'), grantBody()), unstamped);
            refused(await client.create(api('accessapprovals'), voteBody(voteSpec(asked.grant))), unstamped, [403]);
          }
          ok(await as('ann').patch(api('connections', 'orders'), { metadata: { labels: { team: 'shop' } } }, 'merge'));
          ok(
            await as('ann').patch(
              api('accesspolicies', 'orders-team'),
              { metadata: { labels: { team: 'shop' } } },
              'merge',
            ),
          );
        } finally {
          await restore();
        }
        await scene().vote('carol', asked.grant);
        await scene().untilPhase(asked.grant, 'Active');
        return '4 refused meanwhile, the next vote counted';
      },
    },
  ];
}

/** Deletes the webhook's configuration; what comes back makes it again and waits until it stamps. */
async function withdrawWebhook({ admin, as }: SecurityScene): Promise<() => Promise<void>> {
  const path = `${CONFIGURATIONS}/sallyport`;
  const kept = ok(await admin.get<{ metadata: { name: string; labels: object }; webhooks: unknown }>(path));
  ok(await admin.delete(path));
  const probe = () => as('alice').create(api('accessgrants'), grantBody(), { dryRun: true });
  await until('the webhook to be gone', async () => {
    const answer = await probe();
    return answer.kind === 'Failed' && /without a stamp/.test(answer.message);
  });
  return async () => {
    const { name, labels } = kept.metadata;
    const webhooks = JSON.parse(JSON.stringify(kept.webhooks)) as { clientConfig: { caBundle?: string } }[];
    for (const { clientConfig } of webhooks) delete clientConfig.caBundle;
    ok(
      await admin.create(CONFIGURATIONS, {
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind: 'MutatingWebhookConfiguration',
        metadata: { name, labels },
        webhooks,
      }),
    );
    await until('the webhook to be back', async () => (await probe()).kind === 'Ok');
  };
}

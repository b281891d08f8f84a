// Every attack of attacks.ts against the verifier: refused, under the name that tells its cause, with one sentence for
// all of them to whoever sent it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { causeOf, TOKEN_REFUSED } from '../../../src/identity/oidc/describe-fault.ts';
import { type ProvenToken, type TokenCheck, verifyToken } from '../../../src/identity/oidc/verify-token.ts';
import type { TrustedProvider } from '../../../src/policy/bundle.ts';
import { matchesSubject } from '../../../src/policy/subjects.ts';
import { ATTACKS } from './attacks.ts';
import { CI, ci, corp, GITLAB_JOB, job, NOW, NOW_MS, providers, token } from './scene.ts';

async function proven(text: string, more: Partial<TokenCheck> = {}): Promise<ProvenToken> {
  const verdict = await verifyToken(text, { providers: providers(), uses: ['Access'], nowMs: NOW_MS, ...more });
  if (verdict.kind === 'Bad') throw new Error(causeOf(verdict));
  return verdict.token;
}

test('what the attacks change is all that is wrong: without it the token is good', async () => {
  assert.equal((await proven(token())).principal.username, 'corp:alice');
  for (const key of ['RS256', 'EdDSA'] as const) await proven(token({ key }));
  await proven(token({ key: 'RS256', alg: 'PS256' }));
  await proven(token({ header: { typ: 'JWT' }, claims: { aud: 'portal', client_id: undefined } }), { uses: ['ID'] });
  await proven(token({ header: { typ: 'application/AT+JWT' } }));
  await proven(token({ claims: { aud: ['wiki', 'sallyport'] } }));
  await proven(token({ header: { kid: undefined } }), { providers: [corp({ algorithms: ['ES256'] })] });
  await proven(job({}), { uses: ['Workload'] });
});

for (const { name, fault, attack, uses, providers: trusted, nonce, nowMs } of ATTACKS) {
  test(`refused: ${name}`, async () => {
    const set = trusted?.() ?? providers();
    // Whatever good tokens were seen before must not help.
    await verifyToken(token(), { providers: set, uses: ['Access'], nowMs: NOW_MS });
    const text = attack();
    const check: TokenCheck = {
      providers: set,
      uses: uses ?? ['Access'],
      nowMs: nowMs ?? NOW_MS,
      ...(nonce === undefined ? {} : { nonce }),
    };
    for (const again of [check, check]) {
      const verdict = await verifyToken(text, again);
      assert.equal(verdict.kind === 'Bad' ? verdict.fault : 'Good', fault);
      assert.ok(verdict.kind === 'Bad');
      const cause = causeOf(verdict);
      assert.match(cause, new RegExp(`\\(${fault}\\)`));
      assert.ok(!/[\p{Cc}\p{Cf}]/u.test(cause) && cause.length < 600, cause);
      for (const piece of text.split('.').filter((each) => each.length > 12)) {
        assert.ok(!cause.includes(piece) && !TOKEN_REFUSED.includes(piece));
      }
    }
  });
}

test('every cause has an attack of its own', async () => {
  const { CAUSES } = await import('../../../src/identity/oidc/describe-fault.ts');
  assert.deepEqual(
    Object.keys(CAUSES).filter((fault) => !ATTACKS.some((each) => each.fault === fault)),
    [],
  );
});

test('groups that are not there, not a list, or elsewhere are none; a path is not its last part', async () => {
  const groups = async (claims: object, more: Partial<TrustedProvider> = {}): Promise<unknown> => {
    const made = await proven(token({ claims }), { providers: [corp(more)] });
    return [made.principal.groups, made.missingGroups];
  };
  assert.deepEqual(await groups({}), [['corp:payments', 'corp:dba'], undefined]);
  assert.deepEqual(await groups({ groups: undefined }), [[], 'Absent']);
  assert.deepEqual(await groups({ groups: null }), [[], 'Absent']);
  assert.deepEqual(await groups({ groups: 'admin' }), [[], 'NotAList']);
  assert.deepEqual(await groups({ groups: { 0: 'admin' } }), [[], 'NotAList']);
  assert.deepEqual(await groups({ groups: ['admin', 7] }), [[], 'NotAList']);
  assert.deepEqual(await groups({ groups: [['admin']] }), [[], 'NotAList']);
  assert.deepEqual(await groups({ _claim_names: { groups: 'src1' } }), [[], 'Overage']);
  assert.deepEqual(await groups({ hasgroups: true }), [[], 'Overage']);
  assert.deepEqual(await groups({ groups: Array.from({ length: 600 }, (_, i) => `g${i}`) }), [[], 'TooMany']);
  assert.deepEqual(await groups({ groups: ['/tenant/admin'] }), [['corp:/tenant/admin'], undefined]);
  const bare = { prefix: { username: 'corp:', groups: '' } };
  assert.deepEqual(await groups({ groups: ['system:masters', 'SYSTEM:masters', 'ok', 'o\u200bk', ''] }, bare), [
    ['ok'],
    undefined,
  ]);
  const unmapped = corp().claims;
  delete unmapped.groups;
  assert.deepEqual(await groups({}, { claims: unmapped }), [[], undefined]);
});

test('INV-08: names that only exclude stand among the aliases, verified or not', async () => {
  const mapped = corp({ kubernetes: { claim: 'email', prefix: 'oidc:' } });
  const verified = await proven(token(), { providers: [mapped] });
  assert.equal(verified.principal.kubernetes, 'oidc:alice@corp.example');
  assert.deepEqual(verified.principal.aliases, ['alice', 'alice@corp.example', 'oidc:alice@corp.example']);
  const claimed = await proven(token({ claims: { email_verified: 'true' } }), { providers: [mapped] });
  assert.equal(claimed.principal.kubernetes, undefined);
  assert.deepEqual(claimed.principal.aliases, verified.principal.aliases);
});

test('of two jobs, only the one that runs the branch’s own code meets a subject by ref', async () => {
  const subject = {
    kind: 'Claim' as const,
    provider: 'ci',
    claims: { repository_id: '74', ref: 'refs/heads/main', ref_type: 'branch' },
  };
  const meets = async (claims: object): Promise<boolean> =>
    matchesSubject(subject, (await proven(job(claims), { uses: ['Workload'] })).principal, undefined);
  for (const event_name of ['push', 'workflow_dispatch', 'schedule', 'release']) assert.ok(await meets({ event_name }));
  for (const event_name of ['pull_request_target', 'workflow_run', 'issue_comment', 'pull_request', '', 7, ['push']]) {
    assert.ok(!(await meets({ event_name })), String(event_name));
  }
  assert.ok(!(await meets({ ref: 'refs/heads/main2' })));
  assert.ok(!(await meets({ repository_id: '75', repository: 'corp/app' })));
  assert.ok(!(await meets({ repository_id: undefined, ref: ['refs/heads/main'] }).catch(() => false)));

  const byEnvironment = {
    kind: 'Claim' as const,
    provider: 'ci',
    claims: { repository_id: '74', environment: 'prod' },
  };
  const comment = await proven(job({ event_name: 'issue_comment', environment: 'prod' }), { uses: ['Workload'] });
  assert.ok(matchesSubject(byEnvironment, comment.principal, undefined));
  assert.deepEqual(comment.principal.aliases, ['repo:corp/app:ref:refs/heads/main', 'bob']);
  assert.equal(comment.principal.uid, `${CI} 74`);
});

test('a merge request’s pipeline does not pass for its target’s branch', async () => {
  const made = ci();
  const set = [{ ...made, claims: { ...made.claims, uid: 'project_id' } }];
  const subject = {
    kind: 'Claim' as const,
    provider: 'ci',
    claims: { project_id: '9', ref: 'main', ref_type: 'branch', ref_protected: 'true' },
  };
  const meets = async (claims: object): Promise<boolean> => {
    const { principal } = await proven(job(claims, GITLAB_JOB), { uses: ['Workload'], providers: set });
    return matchesSubject(subject, principal, undefined);
  };
  for (const pipeline_source of ['push', 'web', 'schedule', 'api']) assert.ok(await meets({ pipeline_source }));
  assert.ok(!(await meets({ pipeline_source: 'merge_request_event' })));
  assert.ok(!(await meets({ pipeline_source: 'external_pull_request_event' })));
  assert.ok(!(await meets({ pipeline_source: 'parent_pipeline' })));
  assert.ok(!(await meets({ pipeline_source: undefined })));
  assert.ok(!(await meets({ ref_path: 'refs/merge-requests/7/head' })));
  assert.ok(!(await meets({ ref_path: undefined })));
  assert.ok(!(await meets({ ref_protected: 'false' })));
  assert.ok(await meets({ job_project_id: undefined }));
});

test('the cluster’s own ServiceAccounts alone have names of the system', async () => {
  const cluster = ci({
    claims: { uid: 'sub', username: 'sub', workload: [] },
    prefix: { username: '', groups: '' },
    kubernetes: { claim: 'sub', prefix: '' },
  });
  const account = {
    sub: 'system:serviceaccount:ci:deployer',
    'kubernetes.io': { namespace: 'ci', serviceaccount: { name: 'deployer', uid: 'x' } },
  };
  const check = { uses: ['Workload' as const], providers: [cluster] };
  const { principal } = await proven(job(account), check);
  assert.ok(matchesSubject({ kind: 'ServiceAccount', name: 'deployer', namespace: 'ci' }, principal, undefined));
  for (const claims of [
    { ...account, 'kubernetes.io': { namespace: 'other', serviceaccount: { name: 'deployer' } } },
    { ...account, 'kubernetes.io': undefined },
    { ...account, sub: 'system:admin' },
    { ...account, sub: 'system:serviceaccount:ci:deployer:x' },
    { ...account, sub: 'system:serviceaccount:ci' },
  ]) {
    await assert.rejects(proven(job(claims), check), /ForbiddenName/);
  }
});

test('INV-11: one sender’s tokens do not fill the memory of what was verified', async () => {
  const set = providers();
  const texts = Array.from({ length: 50 }, (_, index) => token({ claims: { jti: `j-${index}` } }));
  for (const text of texts) await proven(text, { providers: set });
  const { provenCount } = await import('../../../src/identity/oidc/verify-token.ts');
  assert.equal(provenCount(set), 50);
  await verifyToken(token({ key: 'stranger' }), { providers: set, uses: ['Access'], nowMs: NOW_MS });
  assert.equal(provenCount(set), 50);
});

test('skew reaches as far as the provider says, and no further', async () => {
  const set = [corp({ skewMs: 30_000 })];
  await proven(token({ claims: { exp: NOW - 29 } }), { providers: set });
  await proven(token({ claims: { iat: NOW + 29 } }), { providers: set });
  await proven(token({ claims: { nbf: NOW + 29 } }), { providers: set });
});

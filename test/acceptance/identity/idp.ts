// Criteria of IdentityProviders: a real Keycloak and a second issuer for workloads, their keys fetched by the operator and
// their tokens verified by what it published, as a gateway verifies them.
import assert from 'node:assert/strict';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { type TokenVerdict, verifyToken } from '../../../src/identity/oidc/verify-token.ts';
import type { TokenUse } from '../../../src/policy/bundle.ts';
import { type IdentityBed, identityBed } from '../../support/identity-bed.ts';
import { type Keycloak, keycloakMissing, startKeycloak } from '../../support/keycloak.ts';
import { startIssuer, type WorkloadIssuer } from '../../support/workload-issuer.ts';
import type { CriteriaGroup } from '../criterion.ts';

const MINUTE = 60_000;
const HOUR = 3_600_000;

let bed: IdentityBed;
let keycloak: Keycloak;
let ci: WorkloadIssuer;

/** As docs/identity.md gives it for Keycloak. */
const corp = (): Record<string, unknown> => ({
  issuer: keycloak.issuer,
  caBundle: keycloak.ca,
  audiences: [{ audience: 'sallyport', use: 'Access', clients: ['cli', 'cli-device'], marks: { typ: 'Bearer' } }],
  claims: { username: 'preferred_username', groups: 'groups', email: 'email' },
  login: { clientId: 'cli', deviceClientId: 'cli-device', oauthScope: 'openid' },
});
const pipelines = (): Record<string, unknown> => ({
  issuer: ci.issuer,
  caBundle: ci.ca,
  audiences: [{ audience: 'sallyport-ci', use: 'Workload' }],
  claims: { workload: ['repository_id', 'repository', 'ref', 'ref_type', 'environment', 'event_name'] },
});
const verify = (token: string, uses: readonly TokenUse[] = ['Access', 'Workload']): Promise<TokenVerdict> =>
  verifyToken(token, { providers: bed.published(), uses, nowMs: Date.now() });
const good = async (token: string): Promise<Extract<TokenVerdict, { kind: 'Good' }>['token']> => {
  const verdict = await verify(token);
  if (verdict.kind === 'Bad') throw new Error(`${verdict.fault} ${verdict.detail ?? ''}`);
  return verdict.token;
};
const faultOf = async (token: string): Promise<string> => {
  const verdict = await verify(token);
  if (verdict.kind === 'Good') throw new Error('the token was taken');
  return verdict.fault;
};

export const idp: CriteriaGroup = {
  name: 'idp',
  async start() {
    const why = keycloakMissing();
    if (why !== false) throw new Error(why);
    [bed, keycloak, ci] = await Promise.all([identityBed(), startKeycloak(), startIssuer()]);
    await bed.write({ corp: corp(), ci: pipelines() });
  },
  criteria: [
    {
      claim: 'The operator takes a real Keycloak’s keys over its own CA, and nothing stands in the way of logging in',
      async check() {
        for (const type of ['Accepted', 'Ready', 'Login']) {
          const condition = await bed.condition('corp', type);
          assert.equal(condition?.status, 'True', `${type}: ${condition?.message}`);
        }
        const keys = (await bed.resource('corp'))?.status?.keys;
        return `${keys} keys; Keycloak was up in ${(keycloak.startedInMs / 1000).toFixed(0)} s`;
      },
    },
    {
      claim:
        'Its access token (typ JWT, claim typ Bearer) names the person with groups, and its ID token serves not in its place',
      async check() {
        const tokens = await keycloak.login('alice');
        assert.equal(decodeProtectedHeader(tokens.access_token).typ, 'JWT');
        assert.equal(decodeJwt(tokens.access_token)['typ'], 'Bearer');
        const { principal } = await good(tokens.access_token);
        assert.equal(principal.username, 'corp:alice');
        assert.equal(principal.uid, `${keycloak.issuer} ${decodeJwt(tokens.access_token).sub}`);
        assert.deepEqual(principal.groups, ['corp:/app-team', 'corp:/staff']);
        return `${principal.username}, groups ${principal.groups.join(' ')}; ID token: ${await faultOf(tokens.id_token)}, refresh token: ${await faultOf(tokens.refresh_token)}`;
      },
    },
    {
      claim: 'Its device flow ends with a token of the device client, by which nobody could have acted on the page',
      async check() {
        const device = await keycloak.startDevice();
        await keycloak.approveDevice(device.verification_uri_complete, 'alice');
        const tokens = await keycloak.finishDevice(device.device_code);
        const { principal, client } = await good(tokens.access_token);
        assert.equal(principal.username, 'corp:alice');
        assert.equal(client, keycloak.clients.device);
        const verdict = await verify(tokens.access_token, ['ID']);
        assert.equal(verdict.kind === 'Bad' && verdict.fault, 'Use');
        return `client ${client}; as an ID token: ${verdict.kind === 'Bad' && verdict.fault}`;
      },
    },
    {
      claim: 'A group taken away in Keycloak is missing from the token of the next refresh',
      async check() {
        const first = await keycloak.login('bob');
        assert.ok((await good(first.access_token)).principal.groups.includes('corp:/dba'));
        await keycloak.removeFromGroup('bob', 'dba');
        const second = await keycloak.refresh(first.refresh_token);
        const { groups } = (await good(second.access_token)).principal;
        assert.deepEqual(groups, ['corp:/staff']);
        return `left: ${groups.join(' ')}`;
      },
    },
    {
      claim: 'Keys rotated at Keycloak are believed at once when somebody shows one, those before still',
      async check() {
        const before = await keycloak.login('alice');
        await keycloak.rotate();
        const after = await keycloak.login('alice');
        const [old, fresh] = [before, after].map((each) => decodeProtectedHeader(each.access_token).kid);
        assert.notEqual(old, fresh);
        const verdict = await verify(after.access_token);
        assert.deepEqual([verdict.kind, verdict.kind === 'Bad' && verdict.unknownKid], ['Bad', true]);
        bed.operator().unknownKey('corp');
        await bed.settle();
        await good(after.access_token);
        await good(before.access_token);
        return `kid ${String(old).slice(0, 6)} and ${String(fresh).slice(0, 6)}`;
      },
    },
    {
      claim:
        'Somebody of a SAML provider that Keycloak brokers logs in with her groups, and loses them when she does there',
      async check() {
        const first = await good((await keycloak.login('petra', { broker: true })).access_token);
        assert.equal(first.principal.username, 'corp:partner-petra');
        assert.deepEqual(first.principal.groups, ['corp:/dba']);
        await keycloak.removeFromGroup('petra', 'dba', 'partner');
        const second = await good((await keycloak.login('petra', { broker: true })).access_token);
        assert.equal(second.principal.uid, first.principal.uid);
        assert.deepEqual(second.principal.groups, []);
        return `${first.principal.username}: ${first.principal.groups.join(' ')}, then none`;
      },
    },
    {
      claim: 'A second issuer’s workload tokens prove what CI says of a job, and no person’s token does',
      async check() {
        const { principal, use } = await good(await ci.github('sallyport-ci', { environment: 'production' }));
        assert.equal(use, 'Workload');
        assert.equal(principal.workload?.provider, 'ci');
        assert.equal(principal.workload?.claims['repository_id'], '740012345');
        assert.equal(principal.workload?.claims['environment'], 'production');
        const strange = await faultOf(await ci.github('sallyport'));
        const persons = await verify((await keycloak.login('alice')).access_token, ['Workload']);
        assert.equal(persons.kind === 'Bad' && persons.fault, 'Use');
        return `repository_id ${principal.workload?.claims['repository_id']}; for another audience: ${strange}`;
      },
    },
    {
      claim: 'With both issuers away tokens are verified for 24 hours, over a restart too, and not a moment longer',
      async check() {
        const token = await ci.sign(
          { sub: 'job', aud: 'sallyport-ci', repository_id: '1' },
          { expiresIn: 23 * 3600 + 3000 },
        );
        const at = (): Promise<TokenVerdict> =>
          verifyToken(token, { providers: bed.published(), uses: ['Workload'], nowMs: bed.clock.now() });
        await bed.advance(10 * MINUTE);
        const fetchedMs = Date.parse((await bed.resource('ci'))?.status?.fetchedAt ?? '');
        await ci.stop();
        await bed.advance(HOUR);
        await bed.restart();
        assert.equal((await at()).kind, 'Good');
        assert.equal((await bed.condition('ci', 'Ready'))?.reason, 'LastKeys');
        await bed.advance(fetchedMs + 24 * HOUR - bed.clock.now() - 1000);
        const late = await bed.condition('ci', 'Ready');
        assert.equal(late?.status, 'True', late?.message);
        await bed.advance(1000);
        const verdict = await at();
        assert.equal(verdict.kind === 'Bad' && verdict.fault, 'KeysTooOld');
        return `then ${(await bed.condition('ci', 'Ready'))?.reason}`;
      },
    },
  ],
  async stop() {
    await keycloak?.stop();
    await ci?.stop().catch(() => undefined);
    await bed?.stop();
  },
};

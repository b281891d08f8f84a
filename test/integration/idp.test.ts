// The test provider itself: what the other suites lean on must be as they think.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';
import { type Idp, startIdp } from '../support/idp.ts';
import { startIssuer } from '../support/workload-issuer.ts';

let idp: Idp;
before(async () => {
  idp = await startIdp();
});
after(() => idp.stop());

const device = async (): Promise<{ device_code: string; user_code: string; verification_uri_complete: string }> => {
  const page = await idp.agent().post(`${idp.issuer}/device/auth`, {
    client_id: idp.clients.device,
    scope: 'openid groups email sallyport',
  });
  assert.equal(page.status, 200, page.body);
  return JSON.parse(page.body) as { device_code: string; user_code: string; verification_uri_complete: string };
};

test('a code login gives an access token with groups and how the person logged in', async () => {
  const tokens = await idp.login('alice');
  const { payload, protectedHeader } = await jwtVerify(tokens.access_token, createLocalJWKSet(idp.jwks()), {
    issuer: idp.issuer,
    audience: idp.audience,
  });
  assert.equal(protectedHeader.typ, 'at+jwt');
  assert.deepEqual(payload['groups'], ['app-team', 'staff']);
  assert.equal(payload['client_id'], 'cli');
  assert.equal(payload['acr'], 'pwd');
  assert.equal(typeof payload['auth_time'], 'number');
  const id = decodeJwt(tokens.id_token);
  assert.equal(id.aud, 'cli');
  assert.equal(id['acr'], 'pwd');
  assert.deepEqual(id['amr'], ['pwd']);
  assert.equal(id['email_verified'], true);
  assert.equal(typeof id['auth_time'], 'number');
  assert.equal(typeof id['nonce'], 'string');
});

test('tokenFor has the shape of a login', async () => {
  const real = decodeJwt((await idp.login('bob')).access_token);
  const made = decodeJwt(await idp.tokenFor('bob'));
  for (const changing of ['iat', 'exp', 'jti', 'auth_time', 'sid']) {
    delete real[changing];
    delete made[changing];
  }
  assert.deepEqual(made, { ...real, scope: made['scope'] });
});

test('a refresh sees that a group is gone, and a used refresh token is worth nothing', async () => {
  idp.setUser('dora', { groups: ['app-team', 'staff'] });
  const first = await idp.login('dora');
  idp.removeFromGroup('dora', 'app-team');
  const second = await idp.refresh(first.refresh_token);
  assert.deepEqual(decodeJwt(second.access_token)['groups'], ['staff']);
  assert.equal(decodeJwt(second.access_token)['auth_time'], decodeJwt(first.access_token)['auth_time']);
  await assert.rejects(idp.refresh(first.refresh_token), /invalid_grant/);
  const third = await idp.login('dora');
  idp.setUser('dora', { disabled: true });
  await assert.rejects(idp.refresh(third.refresh_token), /invalid_grant/);
});

test('a device flow ends with tokens of the device client', async () => {
  const { device_code, verification_uri_complete } = await device();
  await idp.approveDevice(verification_uri_complete, 'alice');
  const page = await idp.agent().post(`${idp.issuer}/token`, {
    grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
    client_id: idp.clients.device,
    device_code,
  });
  const tokens = JSON.parse(page.body) as { access_token: string; refresh_token: string };
  const claims = decodeJwt(tokens.access_token);
  assert.equal(claims['client_id'], 'cli-device');
  assert.deepEqual(claims['groups'], ['app-team', 'staff']);
  assert.equal(claims.aud, 'sallyport');
  await idp.refresh(tokens.refresh_token, idp.clients.device);
});

test('prompt=none works in a browser that is logged in; a stronger acr asks again', async () => {
  const agent = idp.agent();
  await assert.rejects(idp.login('carol', { agent, parameters: { prompt: 'none' } }), /login_required/);
  idp.setUser('erin', { groups: [] });
  await idp.login('erin', { agent });
  const silent = await idp.login('erin', { agent, parameters: { prompt: 'none' } });
  assert.equal(decodeJwt(silent.id_token).sub, 'erin');
  await assert.rejects(
    idp.login('erin', { agent, parameters: { prompt: 'none', acr_values: 'mfa' } }),
    /login_required/,
  );
  const strong = await idp.login('erin', { agent, parameters: { acr_values: 'mfa' } });
  assert.equal(decodeJwt(strong.id_token)['acr'], 'mfa');
  assert.deepEqual(decodeJwt(strong.id_token)['amr'], ['pwd', 'otp']);
});

test('after a rotation both keys are published, and sessions go on', async () => {
  const before = await idp.login('alice');
  await idp.rotate();
  const after = await idp.refresh(before.refresh_token);
  const kids = [before, after].map((tokens) => decodeProtectedHeader(tokens.access_token).kid);
  assert.notEqual(kids[0], kids[1]);
  const page = await idp.agent().get(`${idp.issuer}/jwks`);
  const { keys } = JSON.parse(page.body) as { keys: { kid: string; d?: string }[] };
  assert.deepEqual(new Set(keys.map((key) => key.kid)), new Set(kids));
  assert.ok(keys.every((key) => key.d === undefined));
  await idp.rotate({ dropOld: true });
  assert.equal(idp.jwks().keys.length, 1);
});

test('an issuer may end in a slash', async () => {
  const slashed = await startIdp({ path: '/', algorithm: 'ES256' });
  try {
    const page = await slashed.agent().get(`${slashed.issuer}.well-known/openid-configuration`);
    assert.equal((JSON.parse(page.body) as { issuer: string }).issuer, slashed.issuer);
    assert.equal(decodeJwt((await slashed.login('alice')).access_token).iss, slashed.issuer);
  } finally {
    await slashed.stop();
  }
});

test('access tokens by reference are no JWTs', async () => {
  const opaque = await startIdp({ opaque: true, algorithm: 'ES256' });
  try {
    const { access_token } = await opaque.login('alice');
    assert.equal(access_token.split('.').length, 1);
  } finally {
    await opaque.stop();
  }
});

test('a workload issuer signs what CI systems say', async () => {
  const issuer = await startIssuer();
  try {
    const { payload } = await jwtVerify(await issuer.github('sallyport'), createLocalJWKSet(issuer.jwks()), {
      issuer: issuer.issuer,
      audience: 'sallyport',
    });
    assert.equal(payload['repository_id'], '740012345');
    assert.equal(decodeJwt(await issuer.gitlab('sallyport', { ref: 'x' }))['ref'], 'x');
  } finally {
    await issuer.stop();
  }
});

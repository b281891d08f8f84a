import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tlsFailure } from './tls-failure.ts';

const withCode = (code: string): Error =>
  Object.assign(new Error('C0A7:error:0A000086:SSL routines:tls_post_process:failed:../deps/openssl/x.c:1890:'), {
    code,
  });

test('what is wrong with a certificate is told with the field that mends it', () => {
  assert.match(tlsFailure(withCode('SELF_SIGNED_CERT_IN_CHAIN'), 'db').hint, /spec\.postgresql\.tls\.ca/);
  assert.match(
    tlsFailure(withCode('UNABLE_TO_VERIFY_LEAF_SIGNATURE'), 'db').reason,
    /no CA that the Connection trusts/,
  );
  const other = tlsFailure(withCode('ERR_TLS_CERT_ALTNAME_INVALID'), 'db.example');
  assert.equal(other.reason, 'its certificate is not for db.example');
  assert.match(other.hint, /spec\.postgresql\.tls\.serverName/);
  assert.equal(tlsFailure(withCode('CERT_HAS_EXPIRED'), 'db').reason, 'its certificate has expired');
  assert.match(tlsFailure(withCode('CERT_NOT_YET_VALID'), 'db').hint, /clocks/);
});

test('the TLS library’s own text is never shown; a code is, where it is one', () => {
  for (const code of [
    'SELF_SIGNED_CERT_IN_CHAIN',
    'EPROTO',
    'ECONNRESET',
    'ERR_SSL_NO_PROTOCOLS',
    'OTHER',
    'not a\ncode',
  ])
    assert.doesNotMatch(JSON.stringify(tlsFailure(withCode(code), 'db')), /openssl|routines|not a/);
  assert.match(tlsFailure(withCode('ERR_SSL_NO_PROTOCOLS'), 'db').reason, /ERR_SSL_NO_PROTOCOLS/);
  assert.equal(tlsFailure(withCode('OTHER'), 'db').reason, 'TLS failed (OTHER)');
  assert.equal(tlsFailure('text', 'db').reason, 'TLS failed');
});

// Tokens nobody would make: none of them is good unless it is one that an issuer signed, none makes the verifier throw,
// and what a good one names never leaves the bounds. FUZZ_RUNS=100000 for more.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { causeOf } from '../../src/identity/oidc/describe-fault.ts';
import { looksLikeToken } from '../../src/identity/oidc/looks-like-token.ts';
import { type TokenVerdict, verifyToken } from '../../src/identity/oidc/verify-token.ts';
import type { TokenUse } from '../../src/policy/bundle.ts';
import {
  CI,
  ci,
  corp,
  GITHUB_JOB,
  job,
  NOW,
  NOW_MS,
  PERSON,
  part,
  providers,
  token,
} from '../hostile/identity/scene.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 300);
const USES: readonly TokenUse[] = ['Access', 'ID', 'Workload'];
const verify = (text: string, set = providers()): Promise<TokenVerdict> =>
  verifyToken(text, { providers: set, uses: USES, nowMs: NOW_MS });

test('INV-11: any text is refused and told on one line', async () => {
  const piece = fc.oneof(
    fc.string(),
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('base64url')),
    fc.jsonValue().map((value) => part(value)),
    fc.constantFrom('', part({ alg: 'RS256', kid: 'r1' }), part(PERSON), 'AAAA'),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 6 }), async (pieces) => {
      const text = pieces.join('.');
      looksLikeToken(text);
      const verdict = await verify(text);
      assert.equal(verdict.kind, 'Bad');
      assert.ok(verdict.kind === 'Bad' && !/[\p{Cc}]/u.test(causeOf(verdict)));
    }),
    { numRuns: RUNS },
  );
});

test('a good token with anything changed, added or cut off is not good', async () => {
  const set = providers();
  const goods = [
    token(),
    token({ key: 'RS256' }),
    token({ key: 'EdDSA' }),
    token({ key: 'RS256', alg: 'PS256' }),
    job({}),
  ];
  for (const good of goods) assert.equal((await verify(good, set)).kind, 'Good');
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...goods),
      fc.nat(),
      fc.constantFrom('replace', 'insert', 'remove'),
      fc.constantFrom('A', 'Q', 'g', 'w', 'z', '0', '9', '-', '_', '.', '=', '+', '/', ' ', '\n', '\0', 'é'),
      async (good, where, how, character) => {
        const at = where % good.length;
        const rest = good.slice(how === 'insert' ? at : at + 1);
        const changed = `${good.slice(0, at)}${how === 'remove' ? '' : character}${rest}`;
        if (changed === good) return;
        assert.equal((await verify(changed, set)).kind, 'Bad', `${how} at ${at}`);
      },
    ),
    { numRuns: RUNS },
  );
});

test('parts of different good tokens make no good token', async () => {
  const set = providers();
  const goods = [
    token(),
    token({ claims: { sub: 'u-bob', preferred_username: 'bob' } }),
    token({ key: 'EdDSA' }),
    job({}),
  ];
  const split = goods.map((each) => each.split('.') as [string, string, string]);
  for (const [i, a] of split.entries())
    for (const [j, b] of split.entries())
      for (const [k, c] of split.entries()) {
        // The same header may stand before both of the first two.
        const whole = `${a[0]}.${b[1]}.${c[2]}`;
        assert.equal((await verify(whole, set)).kind, goods.includes(whole) ? 'Good' : 'Bad', `${i} ${j} ${k}`);
      }
});

test('INV-08: whatever an issuer signs, names stay within what may be named', async () => {
  const odd = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom<unknown>(
      undefined,
      'system:masters',
      'SYSTEM:admin',
      '\u202ex',
      'a\nb',
      '',
      ' ',
      NOW,
      true,
      ['x'],
      {},
    ),
    fc.string({ unit: 'grapheme', maxLength: 20 }),
  );
  const names = fc.constantFrom(
    ...Object.keys(PERSON),
    ...Object.keys(GITHUB_JOB),
    'azp',
    'typ',
    'nonce',
    'sid',
    'acr',
    'amr',
    'auth_time',
    '_claim_names',
    'hasgroups',
    'upn',
    '__proto__',
  );
  const bare = { prefix: { username: '', groups: '' }, kubernetes: { claim: 'upn', prefix: '' } };
  const set = [corp(bare), ci(bare)];
  await fc.assert(
    fc.asyncProperty(fc.dictionary(names, odd, { maxKeys: 5 }), fc.boolean(), async (claims, ofJob) => {
      const verdict = await verify(ofJob ? job({ ...claims, iss: CI }) : token({ claims }), set);
      if (verdict.kind === 'Bad') return;
      const { principal, iatMs, expMs, amr = [] } = verdict.token;
      const all = [principal.username, principal.kubernetes ?? 'x', ...principal.groups];
      for (const name of all) {
        assert.ok(typeof name === 'string' && name !== '' && name.length <= 512, name);
        assert.ok(!/^system:/i.test(name) && !/[\p{Cc}\p{Cf}]/u.test(name) && name === name.normalize('NFC'), name);
      }
      assert.ok(principal.uid!.length <= 256 && principal.aliases.length <= 16 && principal.groups.length <= 512);
      assert.ok(principal.aliases.every((alias) => alias !== '' && alias.length <= 512));
      assert.ok(Object.values(principal.workload?.claims ?? {}).every((value) => typeof value === 'string'));
      assert.ok(!('sub' in (principal.workload?.claims ?? {})));
      assert.ok(expMs > iatMs && expMs - iatMs <= 86_400_000 && amr.every((each) => typeof each === 'string'));
    }),
    { numRuns: RUNS },
  );
});

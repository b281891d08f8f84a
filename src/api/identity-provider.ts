// IdentityProvider: an OpenID Connect issuer whose tokens the installation believes, and how its people and workloads
// are called here. Holds no secret: what it says is for everybody to read who logs in.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import {
  Conditions,
  closed,
  Duration,
  described,
  enumOf,
  mapOf,
  PublicKeyLine,
  ShortText,
  Timestamp,
} from './schema.ts';

/** Signature algorithms that may be allowed (RFC 7518, 3.1; RFC 8037). Never `none`, never one with a shared secret. */
export const TOKEN_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const;
export const DEFAULT_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'] as const;

const ClaimName = Type.String({ minLength: 1, maxLength: 128 });
const Prefix = Type.String({ maxLength: 128 });

export const IdentityProviderSpec = closed(
  {
    issuer: Type.String({
      minLength: 9,
      maxLength: 512,
      pattern: '^https://[^ ?#@]+$',
      description:
        'The issuer as its tokens spell it in `iss`, octet by octet, a slash at the end included. `/.well-known/openid-configuration` is added to find its keys.',
    }),
    caBundle: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 65536,
        description:
          'PEM certificates of the CAs that the issuer’s certificate may come from, and no other. Default: those of the system.',
      }),
    ),
    clockSkew: Type.Optional(
      described(Duration, 'How far the issuer’s clock may differ, at most `120s`. Default `30s`.'),
    ),
    algorithms: Type.Optional(
      Type.Array(Type.Enum([...TOKEN_ALGORITHMS]), {
        minItems: 1,
        maxItems: 10,
        description: 'Signature algorithms that are believed. Default RS256, PS256, ES256, EdDSA.',
      }),
    ),
    audiences: Type.Array(
      closed({
        name: Type.Optional(described(ShortText, 'What it is for, for people.')),
        audience: described(
          Type.String({ minLength: 1, maxLength: 512 }),
          'Text that must be among the token’s `aud`. Of ID tokens it is the client’s id.',
        ),
        use: enumOf(
          ['Access', 'ID', 'Workload'],
          'What its tokens are for. Access: to log in to targets; ID: to act on the approval page; Workload: of a CI job or another program. None serves as another.',
        ),
        clients: Type.Optional(
          Type.Array(Type.String({ minLength: 1, maxLength: 256 }), {
            minItems: 1,
            maxItems: 32,
            description: 'Clients the tokens may have been made for (`azp`, `client_id`). Needed for Access.',
          }),
        ),
        types: Type.Optional(
          Type.Array(Type.String({ minLength: 1, maxLength: 64, pattern: '^[a-z0-9][a-z0-9.+-]*$' }), {
            minItems: 1,
            maxItems: 8,
            description:
              '`typ` of the token’s header, lower case, without `application/`. Default: `at+jwt` for Access without marks, else none or `jwt`.',
          }),
        ),
        marks: Type.Optional(
          mapOf(Type.String({ minLength: 1, maxLength: 256 }), {
            maxProperties: 8,
            description:
              'Claims that tell these tokens from the issuer’s others, as text. For issuers whose access tokens are not typed `at+jwt`: Keycloak’s say `typ: Bearer`.',
          }),
        ),
      }),
      { minItems: 1, maxItems: 16, description: 'Whom tokens are made for, and what they may be used for.' },
    ),
    claims: Type.Optional(
      closed(
        {
          uid: Type.Optional(
            described(
              ClaimName,
              'Claim that never changes and is never given to somebody else. Default `sub`; where that differs by client (Entra), `oid`.',
            ),
          ),
          username: Type.Optional(described(ClaimName, 'Claim with the name that policies use. Default `sub`.')),
          groups: Type.Optional(
            described(ClaimName, 'Claim with the list of groups. Default: nobody has groups. Absent in a token: none.'),
          ),
          email: Type.Optional(
            described(
              ClaimName,
              'Claim with the e-mail address. It only ever excludes: nobody approves what an address of theirs asked for.',
            ),
          ),
          workload: Type.Optional(
            Type.Array(ClaimName, {
              maxItems: 32,
              description: 'Claims of Workload tokens that Claim subjects of policies may go by.',
            }),
          ),
        },
        { description: 'Where a token says what.' },
      ),
    ),
    prefix: Type.Optional(
      closed(
        {
          username: Type.Optional(
            described(Prefix, 'Put before every name. Default: the provider’s own name and a colon.'),
          ),
          groups: Type.Optional(
            described(Prefix, 'Put before every group. Default: the provider’s own name and a colon.'),
          ),
        },
        { description: 'Keeps the names of one provider apart from those of others and of the cluster.' },
      ),
    ),
    kubernetes: Type.Optional(
      closed(
        {
          claim: described(ClaimName, 'The API server’s username claim.'),
          prefix: described(Prefix, 'The API server’s username prefix; empty where it has none.'),
        },
        {
          description:
            'How the API server names the same people, where it trusts the same issuer. Must repeat its own settings exactly: whoever gets a name here is that Kubernetes user to policies and grants.',
        },
      ),
    ),
    login: Type.Optional(
      closed(
        {
          clientId: described(ShortText, 'Public client for `login` in a browser: code with PKCE, on 127.0.0.1.'),
          deviceClientId: Type.Optional(
            described(
              ShortText,
              'Public client of the device flow, for psql and machines without a browser. Its tokens can not approve.',
            ),
          ),
          scopes: Type.Optional(
            Type.Array(Type.String({ minLength: 1, maxLength: 128, pattern: '^[!#-\\[\\]-~]+$' }), {
              minItems: 1,
              maxItems: 16,
              description: 'Scopes asked for in a browser. Default `openid`, `offline_access`.',
            }),
          ),
          oauthScope: Type.String({
            minLength: 1,
            maxLength: 512,
            pattern: '^[!#-\\[\\]-~]+( [!#-\\[\\]-~]+)*$',
            description:
              'Scopes psql asks for, apart by spaces. They alone must bring an access token of the Access audience, with groups.',
          }),
        },
        { description: 'How clients log in here.' },
      ),
    ),
    ssh: Type.Optional(
      closed(
        {
          userAuthorities: Type.Array(PublicKeyLine, {
            minItems: 1,
            maxItems: 16,
            description:
              'Public keys, as a line of authorized_keys without options, of the authorities whose SSH user certificates are believed. Whoever has the private half is any of this provider’s people.',
          }),
          principals: Type.Optional(
            enumOf(
              ['Username', 'Uid'],
              'What the principals of a certificate are. Username: names as the username claim has them, without the prefix. Uid: values of the uid claim. Default Username.',
            ),
          ),
        },
        {
          description:
            'SSH certificates of the same people. A certificate says nothing of groups and of how somebody logged in.',
        },
      ),
    ),
  },
  {
    'x-kubernetes-validations': [
      {
        rule: "self.audiences.all(a, a.use != 'Access' || has(a.clients))",
        message: 'an audience of use Access needs clients',
        fieldPath: '.audiences',
      },
    ],
  },
);
export type IdentityProviderSpec = Static<typeof IdentityProviderSpec>;

export const IdentityProviderStatus = closed({
  observedGeneration: Type.Optional(Type.Integer({ minimum: 0, description: 'Generation the status is about.' })),
  keys: Type.Optional(Type.Integer({ minimum: 0, description: 'How many keys tokens are verified with.' })),
  fetchedAt: Type.Optional(described(Timestamp, 'When the keys were fetched last.')),
  goodUntil: Type.Optional(
    described(Timestamp, 'When they stop being believed, should they not be fetched again before.'),
  ),
  conditions: Type.Optional(Conditions),
});
export type IdentityProviderStatus = Static<typeof IdentityProviderStatus>;

export type IdentityProvider = Resource<'IdentityProvider', IdentityProviderSpec, IdentityProviderStatus>;

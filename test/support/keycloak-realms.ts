// The two realms that keycloak.ts imports. Passwords are the people's names: nothing but a test reaches it.
import 'reflect-metadata'; // x509's injector needs it loaded first
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

export interface KeycloakRealmFacts {
  origin: string;
  /** What `partner` signs assertions with; `corp` believes no other. Base64 without line ends. */
  signing: { privateKey: string; certificate: string };
}

export async function signingCertificate(): Promise<KeycloakRealmFacts['signing']> {
  x509.cryptoProvider.set(webcrypto as never);
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    publicExponent: new Uint8Array([1, 0, 1]),
    modulusLength: 2048,
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=partner',
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 86_400_000),
    signingAlgorithm: algorithm,
    keys,
  });
  const privateKey = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  return {
    privateKey: privateKey.toString('base64'),
    certificate: Buffer.from(certificate.rawData).toString('base64'),
  };
}

const person = (username: string, groups: readonly string[]) => ({
  username,
  enabled: true,
  email: `${username}@corp.example`,
  emailVerified: true,
  firstName: username,
  lastName: 'Example',
  credentials: [{ type: 'password', value: username, temporary: false }],
  groups: groups.map((group) => `/${group}`),
});

/** What makes its access tokens ones for Sallyport. */
const MAPPERS = [
  {
    name: 'audience',
    protocol: 'openid-connect',
    protocolMapper: 'oidc-audience-mapper',
    config: { 'included.custom.audience': 'sallyport', 'access.token.claim': 'true', 'id.token.claim': 'false' },
  },
  {
    name: 'groups',
    protocol: 'openid-connect',
    protocolMapper: 'oidc-group-membership-mapper',
    config: { 'claim.name': 'groups', 'full.path': 'true', 'access.token.claim': 'true', 'id.token.claim': 'true' },
  },
];

export const corpRealm = ({ origin, signing }: KeycloakRealmFacts): unknown => ({
  realm: 'corp',
  enabled: true,
  accessTokenLifespan: 300,
  groups: ['app-team', 'dba', 'staff'].map((name) => ({ name })),
  users: [person('alice', ['app-team', 'staff']), person('bob', ['dba', 'staff'])],
  clients: [
    {
      clientId: 'cli',
      publicClient: true,
      standardFlowEnabled: true,
      redirectUris: ['http://127.0.0.1/*', 'http://127.0.0.1:1/callback'],
      attributes: { 'pkce.code.challenge.method': 'S256' },
      protocolMappers: MAPPERS,
    },
    {
      clientId: 'cli-device',
      publicClient: true,
      standardFlowEnabled: false,
      attributes: { 'oauth2.device.authorization.grant.enabled': 'true' },
      protocolMappers: MAPPERS,
    },
  ],
  identityProviders: [
    {
      alias: 'partner',
      providerId: 'saml',
      enabled: true,
      trustEmail: false,
      firstBrokerLoginFlowAlias: 'first broker login',
      config: {
        singleSignOnServiceUrl: `${origin}/realms/partner/protocol/saml`,
        idpEntityId: `${origin}/realms/partner`,
        entityId: `${origin}/realms/corp`,
        nameIDPolicyFormat: 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
        principalType: 'SUBJECT',
        postBindingAuthnRequest: 'true',
        postBindingResponse: 'true',
        validateSignature: 'true',
        wantAssertionsSigned: 'true',
        signingCertificate: signing.certificate,
        syncMode: 'FORCE',
      },
    },
  ],
  identityProviderMappers: [
    ...['email', 'firstName', 'lastName'].map((name) => ({
      name,
      identityProviderAlias: 'partner',
      identityProviderMapper: 'saml-user-attribute-idp-mapper',
      config: { syncMode: 'FORCE', 'attribute.name': name, 'user.attribute': name },
    })),
    {
      name: 'username',
      identityProviderAlias: 'partner',
      identityProviderMapper: 'saml-username-idp-mapper',
      config: { syncMode: 'FORCE', template: 'partner-${ATTRIBUTE.username}', target: 'LOCAL' },
    },
    {
      name: 'dba',
      identityProviderAlias: 'partner',
      identityProviderMapper: 'saml-advanced-group-idp-mapper',
      config: {
        syncMode: 'FORCE',
        attributes: JSON.stringify([{ key: 'groups', value: 'dba' }]),
        'are.attribute.values.regex': 'false',
        group: '/dba',
      },
    },
  ],
});

const samlProperty = (name: string) => ({
  name,
  protocol: 'saml',
  protocolMapper: 'saml-user-property-mapper',
  config: { 'user.attribute': name, 'attribute.name': name, 'attribute.nameformat': 'Basic' },
});

export const partnerRealm = ({ origin, signing }: KeycloakRealmFacts): unknown => ({
  realm: 'partner',
  enabled: true,
  groups: [{ name: 'dba' }],
  users: [{ ...person('petra', ['dba']), email: 'petra@partner.example' }],
  components: {
    'org.keycloak.keys.KeyProvider': [
      {
        name: 'signing',
        providerId: 'rsa',
        config: {
          privateKey: [signing.privateKey],
          certificate: [signing.certificate],
          priority: ['200'],
          algorithm: ['RS256'],
        },
      },
    ],
  },
  clients: [
    {
      clientId: `${origin}/realms/corp`,
      protocol: 'saml',
      enabled: true,
      redirectUris: [`${origin}/realms/corp/broker/partner/endpoint*`],
      attributes: {
        'saml.assertion.signature': 'true',
        'saml.server.signature': 'true',
        'saml.client.signature': 'false',
        'saml.authnstatement': 'true',
        'saml.force.post.binding': 'true',
        saml_name_id_format: 'persistent',
        'saml.signature.algorithm': 'RSA_SHA256',
      },
      protocolMappers: [
        ...['username', 'email', 'firstName', 'lastName'].map(samlProperty),
        {
          name: 'groups',
          protocol: 'saml',
          protocolMapper: 'saml-group-membership-mapper',
          config: { 'attribute.name': 'groups', 'attribute.nameformat': 'Basic', single: 'true', 'full.path': 'false' },
        },
      ],
    },
  ],
});

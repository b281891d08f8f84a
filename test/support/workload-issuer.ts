// An issuer of workload tokens, as CI systems have one: discovery, keys, and tokens in the shape of GitHub's and GitLab's
// published claims. No person logs in here.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type CryptoKey, calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';
import { testCertificates } from './certificates.ts';

export interface WorkloadIssuer {
  issuer: string;
  ca: string;
  caFile: string;
  port: number;
  /** A token with these claims; `iss`, `iat`, `exp`, `jti` are filled in, undefined removes. */
  sign(
    claims: Record<string, unknown>,
    options?: { expiresIn?: number; header?: Record<string, unknown> },
  ): Promise<string>;
  /** A push to `main` of corp/orders, run by GitHub-shaped CI, changed by `claims`. */
  github(audience: string, claims?: Record<string, unknown>): Promise<string>;
  /** A pipeline of `main` of corp/orders, protected, run by GitLab-shaped CI, changed by `claims`. */
  gitlab(audience: string, claims?: Record<string, unknown>): Promise<string>;
  rotate(options?: { dropOld?: boolean }): Promise<void>;
  jwks(): { keys: JWK[] };
  stop(): Promise<void>;
}

export async function startIssuer(
  options: { host?: string; port?: number; name?: string; path?: string } = {},
): Promise<WorkloadIssuer> {
  const name = options.name ?? 'localhost';
  const { ca, server: material } = await testCertificates([...new Set([name, 'localhost', '127.0.0.1'])]);
  const folder = mkdtempSync(path.join(tmpdir(), 'issuer-'));
  const caFile = path.join(folder, 'ca.pem');
  writeFileSync(caFile, ca);
  const newKey = async (): Promise<{ privateKey: CryptoKey; jwk: JWK }> => {
    const { privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true });
    const jwk = await exportJWK(publicKey);
    return {
      privateKey,
      jwk: { ...jwk, alg: 'RS256', use: 'sig', kid: (await calculateJwkThumbprint(jwk)).slice(0, 16) },
    };
  };
  let keys = [await newKey()];
  const jwks = (): { keys: JWK[] } => ({ keys: keys.map(({ jwk }) => jwk) });

  const server = https.createServer(material);
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, options.host ?? '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const base = options.path ?? '';
  const issuer = `https://${name}:${port}${base}`;
  server.on('request', (request, response) => {
    const answers: Record<string, () => unknown> = {
      [`${base}/.well-known/openid-configuration`]: () => ({
        issuer,
        jwks_uri: `${issuer}/jwks`,
        id_token_signing_alg_values_supported: ['RS256'],
        response_types_supported: ['id_token'],
        subject_types_supported: ['public'],
      }),
      [`${base}/jwks`]: jwks,
    };
    const answer = answers[request.url ?? ''];
    response.statusCode = answer === undefined ? 404 : 200;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(answer?.() ?? {}));
  });

  const sign: WorkloadIssuer['sign'] = async (claims, { expiresIn = 300, header = {} } = {}) => {
    const [key] = keys;
    if (key === undefined) throw new Error('no key');
    const iat = Math.floor(Date.now() / 1000);
    const all = { iss: issuer, iat, nbf: iat, exp: iat + expiresIn, jti: randomUUID(), ...claims };
    return new SignJWT(Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)))
      .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: key.jwk.kid ?? '', ...header })
      .sign(key.privateKey);
  };
  return {
    issuer,
    ca,
    caFile,
    port,
    sign,
    github: (audience, claims = {}) =>
      sign({
        sub: 'repo:corp/orders:ref:refs/heads/main',
        aud: audience,
        ref: 'refs/heads/main',
        ref_type: 'branch',
        ref_protected: 'true',
        sha: '5d41402abc4b2a76b9719d911017c592ae2f0e8b',
        repository: 'corp/orders',
        repository_id: '740012345',
        repository_owner: 'corp',
        repository_owner_id: '9919',
        repository_visibility: 'private',
        run_id: '1234567890',
        run_number: '10',
        run_attempt: '1',
        actor: 'alice',
        actor_id: '12',
        event_name: 'push',
        workflow: 'migrate',
        workflow_ref: 'corp/orders/.github/workflows/migrate.yml@refs/heads/main',
        job_workflow_ref: 'corp/orders/.github/workflows/migrate.yml@refs/heads/main',
        runner_environment: 'github-hosted',
        ...claims,
      }),
    gitlab: (audience, claims = {}) =>
      sign({
        sub: 'project_path:corp/orders:ref_type:branch:ref:main',
        aud: audience,
        namespace_id: '72',
        namespace_path: 'corp',
        project_id: '20',
        project_path: 'corp/orders',
        user_id: '1',
        user_login: 'alice',
        user_email: 'alice@corp.example',
        pipeline_id: '574',
        pipeline_source: 'push',
        job_id: '302',
        job_project_id: '20',
        job_project_path: 'corp/orders',
        ref: 'main',
        ref_type: 'branch',
        ref_path: 'refs/heads/main',
        ref_protected: 'true',
        runner_environment: 'self-hosted',
        sha: '5d41402abc4b2a76b9719d911017c592ae2f0e8b',
        ...claims,
      }),
    async rotate({ dropOld = false } = {}) {
      keys = [await newKey(), ...(dropOld ? [] : keys.slice(0, 1))];
    },
    jwks,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

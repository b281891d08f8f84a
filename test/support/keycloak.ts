// A real Keycloak from its distribution, on TLS under a CA of its own, in memory: realm `corp` with people, groups and
// clients, and realm `partner`, which `corp` brokers as a SAML identity provider. Gone when the process that started it is.
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { testCertificates } from './certificates.ts';
import { freePorts, guardFolder, startChild } from './cluster/children.ts';
import { corpRealm, type KeycloakRealmFacts, partnerRealm, signingCertificate } from './keycloak-realms.ts';
import { formOf, type Page, type WebAgent, webAgent } from './web-agent.ts';

const VERSION = '26.4.5';
const cache =
  process.env['SALLYPORT_CACHE'] ??
  path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'sallyport');
const distribution = path.join(cache, `keycloak-${VERSION}`);

/** For `test(name, { skip })`: false if it is there or must be; else how to get it. */
export function keycloakMissing(): string | false {
  if (process.env['CI'] !== undefined) return false;
  return fs.existsSync(path.join(distribution, '.built'))
    ? false
    : 'Keycloak is not there; `scripts/tools.sh identity` brings it (Java 17 and Maven)';
}

export interface KeycloakTokens {
  access_token: string;
  id_token: string;
  refresh_token: string;
}

export interface Keycloak {
  /** Of realm `corp`. */
  issuer: string;
  ca: string;
  caFile: string;
  audience: string;
  clients: { cli: string; device: string };
  /** Milliseconds from start to ready. */
  startedInMs: number;
  agent(): WebAgent;
  /** A code + PKCE login in `corp`; `broker`: at `partner` by SAML, as one of its people. */
  login(user: string, options?: { broker?: boolean; agent?: WebAgent }): Promise<KeycloakTokens>;
  refresh(refreshToken: string, client?: string): Promise<KeycloakTokens>;
  /** Begins a device flow (RFC 8628), and ends it once it was approved. */
  startDevice(): Promise<{ device_code: string; verification_uri_complete: string }>;
  finishDevice(deviceCode: string): Promise<KeycloakTokens>;
  /** Does at the device flow's address what the person would. */
  approveDevice(url: string, user: string): Promise<void>;
  /** A new key signs from now on; those before stay published. */
  rotate(): Promise<void>;
  removeFromGroup(user: string, group: string, realm?: 'corp' | 'partner'): Promise<void>;
  stop(): Promise<void>;
}

/** Takes half a minute, more on a busy machine. */
export async function startKeycloak(): Promise<Keycloak> {
  const began = performance.now();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'keycloak-'));
  const release = guardFolder(folder);
  const { ca, server } = await testCertificates();
  const write = (name: string, text: string): string => {
    const file = path.join(folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text, { mode: 0o600 });
    return file;
  };
  const caFile = write('ca.pem', ca);
  const [port, management] = (await freePorts(2)) as [number, number];
  const origin = `https://localhost:${port}`;
  const facts: KeycloakRealmFacts = { origin, signing: await signingCertificate() };
  // Its own programs are shared; what it writes is not.
  for (const part of ['bin', 'conf'])
    fs.cpSync(path.join(distribution, part), path.join(folder, part), { recursive: true });
  for (const part of ['lib', 'providers', 'themes'])
    fs.symlinkSync(path.join(distribution, part), path.join(folder, part));
  write('data/import/corp-realm.json', JSON.stringify(corpRealm(facts)));
  write('data/import/partner-realm.json', JSON.stringify(partnerRealm(facts)));
  const admin = { name: 'admin', password: randomUUID() };
  const child = startChild(
    path.join(folder, 'bin/kc.sh'),
    [
      'start',
      '--optimized',
      '--import-realm',
      `--hostname=${origin}`,
      `--https-port=${port}`,
      `--https-certificate-file=${write('tls.crt', server.cert)}`,
      `--https-certificate-key-file=${write('tls.key', server.key)}`,
      '--http-host=127.0.0.1',
      `--http-management-port=${management}`,
      '--cache=local',
    ],
    path.join(folder, 'log'),
    {
      PATH: process.env['PATH'],
      JAVA_OPTS:
        '-Xms64m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:MaxMetaspaceSize=256m -Djava.net.preferIPv4Stack=true --add-opens=java.base/java.util=ALL-UNNAMED --add-opens=java.base/java.util.concurrent=ALL-UNNAMED --add-opens=java.base/java.security=ALL-UNNAMED',
      KC_BOOTSTRAP_ADMIN_USERNAME: admin.name,
      KC_BOOTSTRAP_ADMIN_PASSWORD: admin.password,
    },
  );
  const issuer = `${origin}/realms/corp`;
  const stop = async (): Promise<void> => {
    // Its script hands TERM on to Java; a KILL would end the script alone.
    await child.end('SIGTERM');
    fs.rmSync(folder, { recursive: true, force: true });
    release();
  };
  const ready = async (): Promise<boolean> => {
    try {
      return (await webAgent(ca).get(`${issuer}/.well-known/openid-configuration`)).status === 200;
    } catch {
      return false;
    }
  };
  while (!(await ready())) {
    if (child.exited || performance.now() - began > 180_000) {
      const log = child.log().slice(-3000);
      await stop();
      throw new Error(`Keycloak did not start: ${log}`);
    }
    await sleep(250);
  }
  const startedInMs = performance.now() - began;

  const call = async <T>(method: string, url: string, token: string | undefined, body?: unknown): Promise<T> => {
    const form = body instanceof URLSearchParams;
    const text = body === undefined ? undefined : form ? body.toString() : JSON.stringify(body);
    const answer = await new Promise<{ status: number; body: string }>((resolve, reject) => {
      const request = https.request(url, {
        method,
        ca,
        signal: AbortSignal.timeout(30_000),
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(text === undefined
            ? {}
            : { 'content-type': form ? 'application/x-www-form-urlencoded' : 'application/json' }),
        },
      });
      request.on('error', reject);
      request.on('response', (response) => {
        let said = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (said += chunk));
        response.on('error', reject);
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: said }));
      });
      request.end(text);
    });
    if (answer.status >= 400) throw new Error(`${method} ${url}: ${answer.status} ${answer.body.slice(0, 500)}`);
    return (answer.body === '' ? undefined : JSON.parse(answer.body)) as T;
  };
  const tokens = (fields: Record<string, string>, realm = 'corp'): Promise<KeycloakTokens> =>
    call('POST', `${origin}/realms/${realm}/protocol/openid-connect/token`, undefined, new URLSearchParams(fields));
  const asAdmin = async <T>(method: string, where: string, body?: unknown): Promise<T> => {
    const { access_token } = await tokens(
      { grant_type: 'password', client_id: 'admin-cli', username: admin.name, password: admin.password },
      'master',
    );
    return call<T>(method, `${origin}/admin/realms/${where}`, access_token, body);
  };
  const throughForms = async (agent: WebAgent, start: Page, user: string): Promise<Page> => {
    let page = start;
    for (let step = 0; step < 10 && page.location === undefined; step++) {
      const form = formOf(page);
      if (form === undefined) return page;
      const fields =
        'password' in form.fields
          ? { username: user, password: user }
          : 'accept' in form.fields
            ? { accept: 'Yes' }
            : {};
      if ('cancel' in form.fields) delete form.fields['cancel'];
      page = await agent.post(form.action, { ...form.fields, ...fields });
    }
    return page;
  };

  return {
    issuer,
    ca,
    caFile,
    audience: 'sallyport',
    clients: { cli: 'cli', device: 'cli-device' },
    startedInMs,
    agent: () => webAgent(ca),
    async login(user, { broker = false, agent = webAgent(ca) } = {}) {
      const verifier = randomUUID() + randomUUID();
      const digest = await crypto.subtle.digest('SHA-256', Buffer.from(verifier));
      const redirect = 'http://127.0.0.1:1/callback';
      const url = new URL(`${issuer}/protocol/openid-connect/auth`);
      url.search = new URLSearchParams({
        client_id: 'cli',
        response_type: 'code',
        redirect_uri: redirect,
        scope: 'openid',
        state: randomUUID(),
        code_challenge: Buffer.from(digest).toString('base64url'),
        code_challenge_method: 'S256',
        ...(broker ? { kc_idp_hint: 'partner' } : {}),
      }).toString();
      const page = await throughForms(agent, await agent.get(url), user);
      const code = page.location?.searchParams.get('code');
      if (typeof code !== 'string')
        throw new Error(
          `the login ended at ${page.location?.href ?? page.url.href} (${page.status}): ${page.body.replace(/\s+/g, ' ').slice(0, 2000)}`,
        );
      return tokens({
        grant_type: 'authorization_code',
        client_id: 'cli',
        code,
        redirect_uri: redirect,
        code_verifier: verifier,
      });
    },
    refresh: (refreshToken, client = 'cli') =>
      tokens({ grant_type: 'refresh_token', client_id: client, refresh_token: refreshToken }),
    startDevice: () =>
      call(
        'POST',
        `${issuer}/protocol/openid-connect/auth/device`,
        undefined,
        new URLSearchParams({ client_id: 'cli-device', scope: 'openid' }),
      ),
    finishDevice: (deviceCode) =>
      tokens({
        grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
        client_id: 'cli-device',
        device_code: deviceCode,
      }),
    async approveDevice(url, user) {
      const agent = webAgent(ca);
      const page = await throughForms(agent, await agent.get(url), user);
      if (!/Device Login Successful/i.test(page.body))
        throw new Error(
          `the device was not approved at ${page.url.href}: ${page.body.replace(/\s+/g, ' ').slice(0, 2000)}`,
        );
    },
    async rotate() {
      const { id } = await asAdmin<{ id: string }>('GET', 'corp');
      await asAdmin('POST', 'corp/components', {
        name: `rsa-${randomUUID().slice(0, 8)}`,
        providerId: 'rsa-generated',
        providerType: 'org.keycloak.keys.KeyProvider',
        parentId: id,
        config: {
          priority: [String(1000 + Math.floor(performance.now() / 1000))],
          keySize: ['2048'],
          algorithm: ['RS256'],
        },
      });
    },
    async removeFromGroup(user, group, realm = 'corp') {
      const [found] = await asAdmin<{ id: string }[]>('GET', `${realm}/users?exact=true&username=${user}`);
      const groups = await asAdmin<{ id: string; name: string }[]>('GET', `${realm}/groups`);
      const id = groups.find((each) => each.name === group)?.id;
      if (found === undefined || id === undefined) throw new Error(`no ${user} or ${group} in ${realm}`);
      await asAdmin('DELETE', `${realm}/users/${found.id}/groups/${id}`);
    },
    stop,
  };
}

// A gateway with two SSH Connections, in front of a real sshd that lets in nobody but by the gateway's certificates: for what is
// tried at a login. Grants of every state are there, an identity provider whose authorities are trusted, and a count of
// what reached the target.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { type ClientKeyPair, generateClientKey } from '../../src/identity/keys.ts';
import { EVERY_CONNECTION } from '../../src/policy/bundle.ts';
import { hostKeysOf, userAuthorityOf } from '../../src/protocols/ssh/keys/derive.ts';
import { publicKeyLine } from '../../src/protocols/ssh/keys/known-hosts.ts';
import { signerOf, signerOfKeyObject } from '../../src/protocols/ssh/keys/signer.ts';
import { createSshProtocol } from '../../src/protocols/ssh/protocol.ts';
import { MSG } from '../../src/protocols/ssh/wire/message-numbers.ts';
import { CONNECTION_UID, grantFor, type Harness, policyShard, rule, startHarness, until } from './gateway-harness.ts';
import { type CertificateClient, certificateClient } from './ssh-certificate-client.ts';
import { type LoginAttack, type LoginCast, rsaAuthority } from './ssh-login-attacks.ts';
import { serviceRequest } from './ssh-login-messages.ts';
import { echo, type RawClient, rawConnection } from './ssh-raw-client.ts';
import { newSeed, type Sshd, startSshd } from './sshd.ts';
import { tokenIssuer } from './token-issuer.ts';

export const OTHER_UID = '3f2b7c1e-2222-4222-8333-444455556666';
/** Why a grant opens nothing, or `InForce`. */
export type GrantState = 'InForce' | 'OtherConnection' | 'Expired' | 'NotYet' | 'Withdrawn' | 'Locked';

export interface LoginScene {
  harness: Harness;
  sshd: Sshd;
  cast: LoginCast;
  /** Private keys of grants. */
  keys: Record<GrantState, ClientKeyPair>;
  /** OpenSSH's client, whose authority is the first of the cast's. */
  openssh: CertificateClient;
  port: number;
  seed: Buffer;
  ticket(state?: GrantState, more?: Parameters<Harness['ticket']>[2]): string;
  /** Tries to get in; answers what the session says then, or undefined and why not. */
  attempt(attack: LoginAttack, from?: string): Promise<{ said: string | undefined; told: string }>;
  /** As `attempt`, on a connection that stands. */
  send(raw: RawClient, attack: LoginAttack): Promise<boolean>;
  connect(from?: string): Promise<RawClient>;
  /** Connections that the target has seen so far. */
  reached(): number;
  stop(): Promise<void>;
}

const ANSWER_MS = 20_000;
/** Everything that the gateway answers a message of a login with, but for banners; a prompt has the number of PK_OK. */
const ANSWERS: readonly number[] = [MSG.SERVICE_ACCEPT, MSG.USERAUTH_SUCCESS, MSG.USERAUTH_FAILURE, MSG.USERAUTH_PK_OK];

export async function startLoginScene(
  options: { limits?: NonNullable<Parameters<typeof startHarness>[1]>['limits'] } = {},
): Promise<LoginScene> {
  const seed = newSeed();
  const sshd = await startSshd({ userAuthority: publicKeyLine(userAuthorityOf({ seed }).blob) });
  const ends: (() => void | Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const end of ends.splice(0)) await end();
    await sshd.stop();
  };
  try {
    const harness = await startHarness(
      { after: (end: unknown) => void ends.push(end as () => Promise<void>) },
      {
        bare: true,
        protocols: [createSshProtocol()],
        keysFor: () => ({ seed, certificates: () => [] }),
        // All attacks come from one address: each has to fail by itself, not because of those in front of it.
        limits: { failureBurst: 1_000_000, ...options.limits },
      },
    );
    return await furnish(harness, { sshd, seed, ends, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Shell {
  sshd: Sshd;
  seed: Buffer;
  ends: (() => void | Promise<void>)[];
  stop(): Promise<void>;
}

async function furnish(harness: Harness, { sshd, seed, ends, stop }: Shell): Promise<LoginScene> {
  const { clock } = harness;
  clock.setWall(Date.now());
  const openssh = certificateClient();
  ends.push(() => openssh.remove());
  const authorities: LoginCast['authorities'] = [signerOf(fs.readFileSync(openssh.authority, 'utf8')), rsaAuthority()];
  const spec = {
    type: 'SSH',
    ssh: { host: '127.0.0.1', port: sshd.port, hostKeys: [sshd.hostKey] },
    accounts: [{ name: 'reader', certificate: { users: [sshd.user] } }],
  };
  const change = { rules: [rule('all', 'Allow')] };
  harness.policy(change, spec);
  harness.publish('policy', policyShard(0, change, spec, OTHER_UID), { connectionUid: OTHER_UID });
  const trusted = authorities.map((each) => ('signer' in each ? each.signer : each).blob.toString('base64'));
  const provider = tokenIssuer(clock).provider({ ssh: { userAuthorities: trusted, principals: 'Username' } });
  harness.publish('identity', { providers: [provider] }, { connectionUid: EVERY_CONNECTION });

  const states: readonly GrantState[] = ['InForce', 'OtherConnection', 'Expired', 'NotYet', 'Withdrawn', 'Locked'];
  const keys = Object.fromEntries(states.map((state) => [state, generateClientKey()])) as LoginScene['keys'];
  const grant = (state: GrantState, more: Parameters<typeof grantFor>[1] = {}): ReturnType<typeof grantFor> =>
    grantFor(clock, {
      name: `web-${state.toLowerCase()}`,
      uid: `aaaaaaaa-0000-4000-8000-00000000000${states.indexOf(state)}`,
      principal: { username: `corp:${PERSONS[state]}`, groups: ['payments'], aliases: [] },
      clientKey: keys[state].publicKey,
      expiresAtMs: clock.now() + 24 * 3_600_000,
      ...more,
    });
  const grants = {
    InForce: grant('InForce'),
    OtherConnection: grant('OtherConnection'),
    Expired: grant('Expired', { notBeforeMs: clock.now() - 7_200_000, expiresAtMs: clock.now() - 3_600_000 }),
    NotYet: grant('NotYet', { notBeforeMs: clock.now() + 3_600_000 }),
    Withdrawn: grant('Withdrawn'),
    Locked: grant('Locked'),
  };
  const { InForce, Expired, NotYet, Withdrawn, Locked } = grants;
  harness.grants(InForce, Expired, NotYet, Withdrawn, Locked);
  harness.grants(InForce, Expired, NotYet, Locked);
  harness.overlay({ locks: [{ name: 'left', target: { user: Locked.principal.username }, reason: 'left' }] });
  harness.publish('grants-0', { grants: [grants.OtherConnection] }, { connectionUid: OTHER_UID });
  harness.publish('overlay', { locks: [], voidTickets: [] }, { connectionUid: OTHER_UID });
  harness.heartbeat();
  harness.publish('heartbeat', { atMs: clock.now() }, { connectionUid: OTHER_UID });
  await until(() => harness.gateway.endpoints().size === 2, 'both Connections are listened for');
  const { port } = harness.gateway.endpoints().get(CONNECTION_UID)!;

  const scene: LoginScene = {
    harness,
    sshd,
    keys,
    openssh,
    port,
    seed,
    cast: {
      user: sshd.user,
      grantKey: signerOfKeyObject(keys.InForce.privateKey),
      principal: PERSONS.InForce,
      authorities,
      ownAuthorities: [userAuthorityOf({ seed }), ...hostKeysOf({ seed, certificates: () => [] })],
      ticket: () => scene.ticket(),
    },
    ticket: (state = 'InForce', more = {}) =>
      harness.ticket(grants[state], keys[state], { nowMs: Date.now(), ...more }),
    connect: (from) => {
      // Certificates are dated by the real clock.
      clock.setWall(Date.now());
      return rawConnection(port, from);
    },
    async send(raw, attack) {
      for (const payload of attack.first ?? [serviceRequest()]) if (!(await answered(raw, payload))) return false;
      for (const payload of attack.script(raw.transport)) {
        const answer = await answered(raw, payload);
        if (answer === undefined) return false;
        if (answer[0] === MSG.USERAUTH_SUCCESS) return true;
      }
      return false;
    },
    async attempt(attack, from) {
      const raw = await scene.connect(from);
      try {
        if (await scene.send(raw, attack)) return { said: await echo(raw, 'in'), told: '' };
        raw.transport.destroy();
        return { said: undefined, told: await raw.closed };
      } finally {
        raw.transport.destroy();
      }
    },
    reached: () => sshd.log().match(/^Connection from/gm)?.length ?? 0,
    stop,
  };
  return scene;
}

const PERSONS: Readonly<Record<GrantState, string>> = {
  InForce: 'ana',
  OtherConnection: 'olga',
  Expired: 'emil',
  NotYet: 'nora',
  Withdrawn: 'willi',
  Locked: 'lou',
};

/** What comes back for one message; undefined: the connection was closed. */
async function answered(raw: RawClient, payload: Buffer): Promise<Buffer | undefined> {
  raw.transport.send(payload);
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`no answer to message ${payload[0]}`)), ANSWER_MS);
  try {
    return await Promise.race([raw.next(...ANSWERS), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Fails unless the one that is right gets in, as far as the target. */
export async function getsIn(scene: LoginScene, attack: LoginAttack): Promise<void> {
  const before = scene.reached();
  const { said, told } = await scene.attempt(attack);
  assert.equal(said, 'in', `${attack.name}: ${told}`);
  assert.equal(scene.reached(), before + 1, `${attack.name}: the target`);
}

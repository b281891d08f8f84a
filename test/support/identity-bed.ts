// The operator over a directory of YAML, with a clock that is moved by hand and real issuers to ask: what becomes of
// IdentityProviders, what is published for all gateways, and what a restart leaves of it.
import { generateKeyPairSync } from 'node:crypto';
import fs from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { IdentityProvider } from '../../src/api/identity-provider.ts';
import type { Condition } from '../../src/api/schema.ts';
import { storedIdentity } from '../../src/cli/local/stored-identity.ts';
import { type Operator, startOperator } from '../../src/controllers/operator.ts';
import { createSealer } from '../../src/controllers/seal.ts';
import type { IdentityShard, ShardEnvelope, TrustedProvider } from '../../src/policy/bundle.ts';
import { signingKeyFromPem, trustedKeyOf, verifyShard } from '../../src/policy/bundle-signing.ts';
import type { ControlBody } from '../../src/recording/envelope.ts';
import { openDirectoryStore } from '../../src/store/directory/store.ts';
import { systemFiles } from '../../src/system/files.ts';
import { type ManualClock, manualClock } from '../../src/system/manual-clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { testCertificates } from './certificates.ts';
import { until } from './cluster/until.ts';

export interface IdentityBed {
  clock: ManualClock;
  folder: string;
  acts: ControlBody[];
  operator(): Operator;
  /** Writes these providers, in place of all there were, and waits until the operator has looked at them. */
  write(providers: Record<string, Record<string, unknown>>): Promise<void>;
  settle(): Promise<void>;
  /** Moves the clock and waits until what fell due is done. */
  advance(ms: number): Promise<void>;
  restart(): Promise<void>;
  resource(name: string): Promise<IdentityProvider | undefined>;
  condition(name: string, type: string): Promise<Condition | undefined>;
  /** As published last, signature checked. */
  published(): TrustedProvider[];
  envelopes: ShardEnvelope[];
  stop(): Promise<void>;
}

export async function identityBed(): Promise<IdentityBed> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-identity-'));
  const directory = path.join(folder, 'access');
  fs.mkdirSync(directory);
  const clock = manualClock(Date.now());
  const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const key = signingKeyFromPem(pem);
  const sealer = createSealer(key);
  const acts: ControlBody[] = [];
  const envelopes: ShardEnvelope[] = [];
  let epoch = 0;
  const open = async () => {
    const store = openDirectoryStore({
      directory,
      stateFolder: path.join(folder, 'state'),
      clock,
      random: systemRandom,
      files: systemFiles,
      seal: (stamp) => sealer.sealStamp(stamp),
      watch: false,
    });
    epoch += 1;
    const operator = await startOperator({
      store,
      definitions: [],
      sealer,
      records: {
        write(body) {
          acts.push(body);
          return Promise.resolve();
        },
      },
      clock,
      random: systemRandom,
      log: () => undefined,
      key,
      epoch,
      publisher: {
        publish: (envelope) => void (envelope.shard === 'identity' && envelopes.push(envelope)),
        withdraw: () => undefined,
      },
      storedIdentity: storedIdentity(systemFiles, path.join(folder, 'identity.json')),
      broken: () => [],
      endpoint: () => undefined,
      caBundle: '',
      probe: () => Promise.resolve({ kind: 'Failed', reason: 'No probe here.', hint: '' }),
      prefix: 'sallyport',
    });
    return { store, operator };
  };
  let world = await open();
  const settle = async (): Promise<void> => {
    // A key is added by a watch, so it may take a turn before there is anything to wait for.
    for (let calm = 0; calm < 3; ) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      await until(() => world.operator.idle, 'the queues to run dry');
      calm += world.operator.idle ? 1 : 0;
    }
  };
  const resource: IdentityBed['resource'] = (name) =>
    world.store.get<IdentityProvider>({ kind: 'IdentityProvider', name });
  return {
    clock,
    folder,
    acts,
    envelopes,
    operator: () => world.operator,
    async write(providers) {
      const documents = Object.entries(providers).map(([name, spec]) =>
        JSON.stringify({ apiVersion: 'sallyport.dev/v1alpha1', kind: 'IdentityProvider', metadata: { name }, spec }),
      );
      fs.writeFileSync(path.join(directory, 'providers.yaml'), documents.join('\n---\n'));
      world.store.reload();
      const problems = world.store.problems().filter(({ severity }) => severity === 'Error');
      if (problems.length > 0) throw new Error(problems.map(({ field, message }) => `${field}: ${message}`).join('\n'));
      await settle();
    },
    settle,
    async advance(ms) {
      clock.advance(ms);
      await settle();
    },
    async restart() {
      await world.operator.stop();
      world.store.close();
      world = await open();
      await settle();
    },
    resource,
    condition: async (name, type) =>
      (await resource(name))?.status?.conditions?.find((condition) => condition.type === type),
    published() {
      const last = envelopes.at(-1);
      if (last === undefined) return [];
      const verdict = verifyShard([trustedKeyOf(key)], last);
      if (verdict.kind === 'Bad') throw new Error(verdict.reason);
      return (verdict.payload as IdentityShard).providers;
    },
    async stop() {
      await world.operator.stop();
      world.store.close();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

export interface FaultyIssuer {
  issuer: string;
  ca: string;
  /** Requests so far. */
  readonly paths: readonly string[];
  stop(): Promise<void>;
}

/** An issuer that answers as told. `answer` gets the path; undefined: it never answers. */
export async function faultyIssuer(
  answer: (
    path: string,
    issuer: string,
  ) => { status?: number; headers?: Record<string, string>; body?: string | Buffer } | undefined,
): Promise<FaultyIssuer> {
  const { ca, server: material } = await testCertificates();
  const paths: string[] = [];
  let issuer = '';
  const server = https.createServer(material, (request: IncomingMessage, response: ServerResponse) => {
    paths.push(request.url ?? '');
    const said = answer(request.url ?? '', issuer);
    if (said === undefined) return;
    response.writeHead(said.status ?? 200, { 'content-type': 'application/json', ...said.headers });
    response.end(said.body ?? '{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  issuer = `https://localhost:${(server.address() as AddressInfo).port}`;
  return {
    issuer,
    ca,
    paths,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

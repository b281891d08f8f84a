// The portal's world where a daemon on this machine is behind it: asked over its socket, and looked at twice a second
// while a page is open. The daemon proves who did what by itself; this process only carries the proof.
import { createHash } from 'node:crypto';
import type { Resource } from '../../api/resource.ts';
import type { SessionInfo } from '../../gateway/gateway.ts';
import { createUnknownKeys } from '../../identity/oidc/unknown-keys.ts';
import type { TrustedProvider } from '../../policy/bundle.ts';
import type { CreateResult, PortalKind, World } from '../../portal/world.ts';
import type { Clock } from '../../system/clock.ts';
import { localCaller } from '../client.ts';
import { CliError } from '../io.ts';
import type { CreateAnswer } from '../local/api-types.ts';

const LOOK_MS = 500;
const FOLLOWED: readonly PortalKind[] = ['AccessGrant', 'CommandHold', 'AccessApproval'];

export interface LocalWorld extends World {
  stop(): void;
}

export function createLocalWorld(options: { state: string; prefix: string; clock: Clock }): LocalWorld {
  const { clock, prefix } = options;
  const call = localCaller(options.state, prefix);
  const listeners = new Set<() => void>();
  const keys = createUnknownKeys(clock);
  let trouble: string | undefined;
  let seen: string | undefined;
  let cancel: (() => void) | undefined;
  let stopped = false;

  const ask = async (method: 'GET' | 'POST', route: string, body?: unknown): Promise<unknown> => {
    try {
      const answer = await call(method, route, body);
      trouble = undefined;
      return answer;
    } catch (error) {
      // Refusals of the daemon are answers; only its absence is trouble.
      if (!(error instanceof CliError) || error.hint !== undefined)
        trouble = 'Sallyport itself does not answer; what you see may be missing things.';
      throw error;
    }
  };
  const query = (values: Record<string, string>): string => new URLSearchParams(values).toString();
  const list = async <R extends Resource>(kind: PortalKind): Promise<readonly R[]> =>
    ((await ask('GET', `/v1/list?${query({ kind })}`)) as { items: R[] }).items;
  const sessions = async (): Promise<SessionInfo[]> =>
    ((await ask('GET', '/v1/sessions')) as { sessions: SessionInfo[] }).sessions;

  const look = async (): Promise<void> => {
    const hash = createHash('sha256');
    for (const kind of FOLLOWED)
      for (const { metadata } of await list(kind)) hash.update(`${metadata.uid} ${metadata.resourceVersion}\n`);
    for (const each of await sessions()) hash.update(`${each.id} ${each.state} ${each.holds.join()}\n`);
    const now = hash.digest('base64url');
    const changed = seen !== undefined && seen !== now;
    seen = now;
    if (changed) for (const listener of Array.from(listeners)) listener();
  };
  const follow = (): void => {
    if (stopped || listeners.size === 0) {
      cancel = undefined;
      return;
    }
    cancel = clock.after(LOOK_MS, () => {
      look().then(follow, follow);
    });
  };

  return {
    prefix,
    cluster: async () => ((await ask('GET', '/v1/identity')) as { cluster: string }).cluster,
    providers: async () => ((await ask('GET', '/v1/identity')) as { providers: TrustedProvider[] }).providers,
    unknownKey(provider) {
      if (keys.saw(provider)) void ask('POST', '/v1/identity/unknown-key', { provider }).catch(() => undefined);
    },
    list,
    get: async <R extends Resource>(kind: PortalKind, namespace: string, name: string) =>
      ((await ask('GET', `/v1/get?${query({ kind, namespace, name })}`)) as { object?: R }).object,
    async sessions() {
      return (await sessions()).flatMap((each) =>
        each.principal === undefined || each.grant === undefined
          ? []
          : [
              {
                id: each.id,
                namespace: each.connection.namespace,
                connection: each.connection.name,
                grant: { name: each.grant.name, uid: each.grant.uid },
                username: each.principal.username,
                account: each.account ?? '',
                client: each.client.address,
                startedAt: new Date(each.startedAtMs).toISOString(),
                state: each.state,
                holds: each.holds,
              },
            ],
      );
    },
    async create(object) {
      let answer: CreateAnswer;
      try {
        answer = (await ask('POST', '/v1/prove', { object })) as CreateAnswer;
      } catch (error) {
        return { kind: 'Unavailable', message: error instanceof CliError ? error.message : 'it does not answer' };
      }
      return resultOf(answer);
    },
    onChange(listener) {
      listeners.add(listener);
      if (cancel === undefined && !stopped) {
        seen = undefined;
        cancel = () => undefined;
        look().then(follow, follow);
      }
      return () => listeners.delete(listener);
    },
    trouble: () => trouble,
    stop() {
      stopped = true;
      cancel?.();
    },
  };
}

function resultOf(answer: CreateAnswer): CreateResult {
  switch (answer.kind) {
    case 'Ok':
      return { kind: 'Made', object: answer.value };
    case 'AlreadyExists':
      return { kind: 'Exists' };
    case 'NotEligible':
      return { kind: 'Refused', message: answer.message, hint: answer.hint };
    case 'Invalid':
      return { kind: 'Refused', message: answer.problems.join('; ') };
    case 'Forbidden':
    case 'Conflict':
      return { kind: 'Refused', message: answer.message };
    case 'NotFound':
      return { kind: 'Refused', message: 'What it is about is gone.' };
  }
}

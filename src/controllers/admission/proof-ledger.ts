// Which proofs were used, for every replica that admits: a Lease beside the operator for each, named by the proof's digest
// and made before the object is let through. Guarantees: of any number of requests with one proof, in whatever namespaces
// and at whatever replicas, one is let through; deleting what it made gives nothing back; a dry run asks and leaves
// nothing; no Lease tells anything of its token. A record goes once its proof is too old to be taken anyway.
// Does not know whether the object was stored in the end: a proof whose object the API server then refused is spent, and
// the person or job proves themselves anew.
import { createHash } from 'node:crypto';
import type { KubeAnswer } from '../../kube/answer.ts';
import type { KubeClient } from '../../kube/client.ts';
import { LEASES, resourcePath } from '../../kube/paths.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import type { Log } from '../runtime.ts';

export interface ProofUse {
  /** What the proof is known by; the same for the same proof, in no other. */
  id: string;
  /** Past it nobody takes the proof any more. */
  untilMs: number;
  /** Id of the admission review: one that is asked about twice is one use. */
  review: string;
  dryRun: boolean;
}

export interface ProofLedger {
  /** Whether this use is its first; it is written down then. Rejects where that can not be told. */
  spend(use: ProofUse): Promise<boolean>;
  /** Takes away the records of proofs that are too old. */
  sweep(): Promise<void>;
  stop(): void;
}

interface Lease {
  metadata: { name: string; uid?: string };
  spec?: { holderIdentity?: string; acquireTime?: string; leaseDurationSeconds?: number };
}

export const PROOF_LABEL = 'sallyport.dev/record';
const LABEL_VALUE = 'proof';
/** An admission review is given up after a few seconds. */
const CALL_MS = 2_500;
/** By so much clocks of replicas and issuers may differ, and then some: a record that goes too early is a proof too many. */
const KEPT_MS = 10 * 60_000;
const SWEEP_MS = 10 * 60_000;
const PAGE = 500;

export const recordName = (id: string): string =>
  `proof-${createHash('sha256').update(`sallyport-used-proof\n${id}`).digest('hex').slice(0, 48)}`;

export function createProofLedger(options: {
  client: Pick<KubeClient, 'get' | 'create' | 'list' | 'delete'>;
  /** The operator's own. */
  namespace: string;
  clock: Clock;
  random: Random;
  log: Log;
}): ProofLedger {
  const { client, namespace, clock, log } = options;
  const all = resourcePath(LEASES, { namespace });
  const pathOf = (name: string): string => resourcePath(LEASES, { namespace, name });
  const failed = (answer: Extract<KubeAnswer<unknown>, { kind: 'Failed' }>): Error =>
    new Error(`used proofs can not be told (Leases in ${namespace}): ${answer.message}`);

  let stopped = false;
  let cancel: () => void = () => undefined;
  const sweep = async (): Promise<void> => {
    const found = await client.list<Lease>(all, { labelSelector: `${PROOF_LABEL}=${LABEL_VALUE}`, limit: PAGE });
    if (found.kind === 'Failed') throw failed(found);
    for (const { metadata, spec } of found.value.items) {
      if (stopped) return;
      const since = Date.parse(spec?.acquireTime ?? '');
      const untilMs = since + (spec?.leaseDurationSeconds ?? Number.NaN) * 1000;
      // What can not be read is kept: nobody but an administrator of this namespace has written it.
      if (!(clock.now() > untilMs)) continue;
      const gone = await client.delete(pathOf(metadata.name), { uid: metadata.uid });
      if (gone.kind === 'Failed' && gone.status !== 404 && gone.status !== 409) throw failed(gone);
    }
  };
  const arm = (): void => {
    // Replicas began at once; they need not look at once.
    const jitter = options.random.bytes(1)[0]! / 256;
    cancel = clock.after(SWEEP_MS * (0.75 + jitter / 2), () => {
      sweep()
        .catch((error: unknown) => log('warn', 'records of used proofs are not cleared away', { error: String(error) }))
        .finally(() => !stopped && arm());
    });
  };
  arm();

  return {
    async spend({ id, untilMs, review, dryRun }) {
      const name = recordName(id);
      const isOurs = async (): Promise<boolean | undefined> => {
        const found = await client.get<Lease>(pathOf(name), { deadlineMs: CALL_MS });
        if (found.kind === 'Ok') return found.value.spec?.holderIdentity === review;
        if (found.status === 404) return undefined;
        throw failed(found);
      };
      if (dryRun) return (await isOurs()) ?? true;
      const now = clock.now();
      const made = await client.create<Lease>(
        all,
        {
          apiVersion: 'coordination.k8s.io/v1',
          kind: 'Lease',
          metadata: { name, namespace, labels: { [PROOF_LABEL]: LABEL_VALUE } },
          spec: {
            holderIdentity: review,
            acquireTime: `${new Date(now).toISOString().slice(0, -1)}000Z`,
            leaseDurationSeconds: Math.max(1, Math.ceil((untilMs - now + KEPT_MS) / 1000)),
          },
        },
        { deadlineMs: CALL_MS },
      );
      if (made.kind === 'Ok') return true;
      if (made.status === 409) return (await isOurs()) ?? false;
      throw failed(made);
    },
    sweep,
    stop() {
      stopped = true;
      cancel();
    },
  };
}

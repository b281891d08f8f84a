// What of a grant's status the operator vouches for. Status is not authority: what is not under a good seal was not decided.
import { specHash } from '../../api/canonical.ts';
import type { AccessGrant, AccessGrantStatus } from '../../api/grant.ts';
import type { Sealer } from '../seal.ts';
import type { SealedLife } from './fold.ts';

export const PURPOSE = 'AccessGrant';

const VOUCHED = [
  'phase',
  'policy',
  'account',
  'approvals',
  'deadline',
  'notBefore',
  'expiresAt',
  'finishedAt',
  'finishedBy',
  'signOff',
  'sealedUses',
] as const satisfies readonly (keyof AccessGrantStatus)[];

export function sealedFacts(hash: string, status: AccessGrantStatus): unknown {
  return { hash, ...Object.fromEntries(VOUCHED.map((field) => [field, status[field]])) };
}

/** The status if the operator sealed it over this very grant. */
export function sealedStatus(grant: AccessGrant, sealer: Pick<Sealer, 'checkFacts'>): AccessGrantStatus | undefined {
  const { status } = grant;
  if (status?.seal === undefined) return undefined;
  const facts = sealedFacts(specHash(grant.spec), status);
  return sealer.checkFacts(PURPOSE, grant.metadata.uid, facts, status.seal) ? status : undefined;
}

export const ms = (text: string | undefined): number | undefined => (text === undefined ? undefined : Date.parse(text));

export function lifeOf(status: AccessGrantStatus): SealedLife {
  const startMs = ms(status.expiresAt) === undefined ? undefined : ms(status.notBefore);
  return {
    phase: status.phase,
    counted: (status.approvals ?? []).map((each) => ({
      step: each.step,
      approver: each.approver,
      vote: each.approval,
      atMs: Date.parse(each.at),
      ...(each.reason ? { reason: each.reason } : {}),
    })),
    deadlineMs: ms(status.deadline) ?? 0,
    ...(startMs !== undefined ? { startMs, endMs: ms(status.expiresAt)! } : {}),
    ...(status.finishedAt ? { finishedAtMs: Date.parse(status.finishedAt) } : {}),
    ...(status.finishedBy ? { finishedBy: status.finishedBy } : {}),
  };
}

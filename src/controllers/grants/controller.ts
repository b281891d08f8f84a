// Keeps every AccessGrant's status what decide.ts says, and tells each AccessApproval whether it counts and why.
// Acts are recorded before the status that shows them is written: after a crash they may be recorded twice, never not.
import { specHash } from '../../api/canonical.ts';
import type { Connection } from '../../api/connection.ts';
import type { AccessApproval, AccessGrant, AccessGrantStatus } from '../../api/grant.ts';
import type { AccessPolicy } from '../../api/policy.ts';
import type { ProxyReplica } from '../../api/replica.ts';
import type { Resource } from '../../api/resource.ts';
import type { Principal } from '../../policy/principal.ts';
import type { ControlBody } from '../../recording/envelope.ts';
import { saysSomethingElse } from '../changes.ts';
import { conditionIs, withCondition } from '../conditions.ts';
import type { ControllerContext } from '../ports.ts';
import type { CacheEvent, Reconcile } from '../runtime.ts';
import { keyOf, splitKey } from '../runtime.ts';
import { sameStatus, writeStatus } from '../status.ts';
import { type Choice, decideGrant, type GrantDecision } from './decide.ts';
import { isTerminal } from './fold.ts';
import { sealedStatus } from './sealed.ts';

export interface GrantControllerOptions extends ControllerContext {
  /** Why a grant in force is not published all the same; undefined: it is. */
  withheld(grant: AccessGrant, status: AccessGrantStatus): string | undefined;
  /** Which policy a grant runs under (policy/eligibility.ts), over what the cache holds now. */
  choose(grant: AccessGrant, principal: Principal, pinned: string | undefined): Choice;
  prefix: string;
  /** Address of the approval page, where there is one. */
  portal?: string;
  signOffsDue?(count: number): void;
}

/** Keys of grants that an event bears on. */
export function grantsTouchedBy(event: CacheEvent, cache: ControllerContext['cache']): string[] {
  const namespace = event.object.metadata.namespace;
  const keys = (grants: readonly AccessGrant[]): string[] =>
    grants.map((grant) => keyOf(grant.metadata.namespace, grant.metadata.name));
  switch (event.kind) {
    case 'AccessGrant': {
      const { name } = event.object.metadata;
      const { uid } = event.object.metadata;
      const { clientKey } = (event.object as AccessGrant).spec;
      // A key that turns up again concerns those who had it; one that never does concerns nobody.
      const sharers = clientKey === undefined ? [] : cache.indexed<AccessGrant>('AccessGrant', 'clientKey', clientKey);
      return [
        keyOf(namespace, name),
        ...keys(cache.indexed<AccessGrant>('AccessGrant', 'parent', uid)),
        ...keys(sharers.filter(undecided)),
      ];
    }
    case 'AccessApproval': {
      const { targetRef } = (event.object as AccessApproval).spec;
      return targetRef.kind === 'AccessGrant' ? [keyOf(namespace, targetRef.name)] : [];
    }
    case 'AccessPolicy':
    case 'Connection':
      if (!saysSomethingElse(event)) return [];
      return keys(cache.list<AccessGrant>('AccessGrant', namespace).filter(undecided));
    case 'ClusterAccessPolicy':
      if (!saysSomethingElse(event)) return [];
      return keys(cache.list<AccessGrant>('AccessGrant').filter(undecided));
    case 'ProxyReplica':
      return ((event.object as ProxyReplica).spec?.sealedUses ?? []).map((use) => keyOf(namespace, use.grant));
    default:
      return [];
  }
}

/** Whether it is to end only because not enough people voted in time. */
const timedOut = (before: AccessGrantStatus | undefined, { status }: GrantDecision): boolean =>
  status.phase === 'Expired' && status.expiresAt === undefined && before?.phase !== 'Expired';

const undecided = (grant: AccessGrant): boolean => grant.status === undefined || !isTerminal(grant.status.phase);

export function createGrantReconciler(options: GrantControllerOptions): Reconcile {
  const { cache, sealer, clock } = options;
  const due = new Set<string>();
  const tellDue = (key: string, status: AccessGrantStatus | undefined): void => {
    const before = due.size;
    if (conditionIs(status?.conditions, 'SignedOff', 'False')) due.add(key);
    else due.delete(key);
    if (due.size !== before) options.signOffsDue?.(due.size);
  };
  return async (key) => {
    const { namespace, name } = splitKey(key);
    const grant = cache.get<AccessGrant>({ kind: 'AccessGrant', ...(namespace ? { namespace } : {}), name });
    if (grant === undefined) {
      tellDue(key, undefined);
      return undefined;
    }
    let approvals = cache.indexed<AccessApproval>('AccessApproval', 'target', `AccessGrant ${key}`);
    const before = sealedStatus(grant, sealer);
    const decideOn = (votes: readonly AccessApproval[]): GrantDecision =>
      decideGrant(
        {
          grant,
          approvals: votes,
          choose: (principal, pinned) => options.choose(grant, principal, pinned),
          policy: (policyNamespace, policyName, uid) => {
            const found = cache.get<AccessPolicy>({
              kind: 'AccessPolicy',
              ...(policyNamespace ? { namespace: policyNamespace } : {}),
              name: policyName,
            });
            return found?.metadata.uid === uid ? found : undefined;
          },
          policyNamed: (policyNamespace, policyName) =>
            cache.get<AccessPolicy>({
              kind: 'AccessPolicy',
              ...(policyNamespace ? { namespace: policyNamespace } : {}),
              name: policyName,
            }),
          ...(grant.spec.sealed === undefined ? {} : { sealedUses: sealedUsesOf(cache, grant) }),
          commandHashes: (account, commands) => hashesOf(options, grant, account, commands),
          ...(options.portal === undefined ? {} : { portal: options.portal }),
          find: (other) =>
            cache.get<AccessGrant>({ kind: 'AccessGrant', ...(namespace ? { namespace } : {}), name: other }),
          siblings:
            grant.spec.extends === undefined
              ? []
              : cache
                  .indexed<AccessGrant>('AccessGrant', 'parent', grant.spec.extends.uid)
                  .filter((other) => other.metadata.uid !== grant.metadata.uid),
          sameKey:
            grant.spec.clientKey === undefined
              ? []
              : cache
                  .indexed<AccessGrant>('AccessGrant', 'clientKey', grant.spec.clientKey)
                  .filter((other) => other.metadata.uid !== grant.metadata.uid),
          ...(before === undefined ? {} : withheldBecause(options, grant, before)),
          nowMs: clock.now(),
          prefix: options.prefix,
        },
        sealer,
      );
    let decision = decideOn(approvals);
    if (timedOut(before, decision)) {
      // What this process has heard may be old, as after an outage: only what the store holds says that nobody voted.
      const all = (await options.store.list<AccessApproval>('AccessApproval', namespace)).items;
      approvals = all.filter(({ spec }) => spec.targetRef.kind === 'AccessGrant' && spec.targetRef.name === name);
      decision = decideOn(approvals);
    }
    const { phase } = decision.status;
    const tightens = phase !== 'Active' && phase !== 'Pending';
    const untold = await tellApprovals(options, approvals, decision.votes);
    if (untold !== undefined && !tightens) throw untold;
    if (!sameStatus(grant.status, decision.status)) {
      for (const body of actsOf(grant, before, decision.status)) await recordAct(options, body, tightens);
      await writeStatus(options, grant, decision.status);
    }
    tellDue(key, decision.status);
    if (untold !== undefined) throw untold;
    return decision.nextMs === undefined ? undefined : { againInMs: decision.nextMs - clock.now() };
  };
}

/** Tells each approval; the first failure comes back, so that a vote that can not be told does not stop another's effect. */
export async function tellApprovals(
  context: ControllerContext,
  approvals: readonly AccessApproval[],
  verdicts: ReadonlyMap<string, { counted: boolean; reason: string; message: string }>,
): Promise<Error | undefined> {
  let failure: Error | undefined;
  for (const approval of approvals) {
    const verdict = verdicts.get(approval.metadata.uid);
    if (verdict === undefined) continue;
    try {
      await tellApproval(context, approval, verdict);
    } catch (error) {
      failure ??= error as Error;
    }
  }
  return failure;
}

/** An approval's condition `Counted`, and the record of who decided what. */
async function tellApproval(
  context: ControllerContext,
  approval: AccessApproval,
  verdict: { counted: boolean; reason: string; message: string },
): Promise<void> {
  const known = approval.status?.conditions?.find((each) => each.type === 'Counted');
  // What counted does not stop counting because the target ended since; what did not may count yet, once a policy
  // that was unreadable can be read.
  if (known !== undefined && (known.status === 'True' || !verdict.counted)) return;
  const { spec, metadata } = approval;
  const body: ControlBody = {
    act: `approval.${spec.decision.toLowerCase()}`,
    actor: actorOf(spec.approver),
    object: objectOf(approval),
    details: {
      target: spec.targetRef,
      specHash: spec.specHash,
      ...(spec.reason ? { reason: spec.reason } : {}),
      counted: verdict.counted,
      verdict: verdict.reason,
    },
  };
  await recordAct(context, body, spec.decision !== 'Approve');
  const conditions = withCondition(
    approval.status?.conditions,
    {
      type: 'Counted',
      status: verdict.counted ? 'True' : 'False',
      observedGeneration: metadata.generation,
      reason: verdict.reason,
      message: verdict.message,
    },
    context.clock.now(),
  );
  await writeStatus(context, approval, { conditions });
}

/**
 * Records an act before it takes effect. Where records can not be written nothing is given, but what takes away goes on:
 * a full disk must not keep a revoked grant alive.
 */
export async function recordAct(
  context: Pick<ControllerContext, 'records' | 'log'>,
  body: ControlBody,
  tightens: boolean,
): Promise<void> {
  try {
    // Nobody approved an emergency: its record must outlive even a power cut.
    await context.records.write(body, body.act === 'grant.break-glass' ? { durability: 'Disk' } : {});
  } catch (error) {
    if (!tightens) throw error;
    context.log('error', 'an act takes effect without a record', {
      act: body.act,
      object: body.object?.name,
      error: String(error),
    });
  }
}

export const objectOf = (object: Resource): NonNullable<ControlBody['object']> => ({
  kind: object.kind,
  ...(object.metadata.namespace ? { namespace: object.metadata.namespace } : {}),
  name: object.metadata.name,
  uid: object.metadata.uid,
});

export const actorOf = (stamp: { username: string; uid?: string } | undefined): ControlBody['actor'] =>
  stamp === undefined
    ? { username: 'unknown' }
    : { username: stamp.username, ...(stamp.uid ? { uid: stamp.uid } : {}) };

function withheldBecause(
  options: GrantControllerOptions,
  grant: AccessGrant,
  status: AccessGrantStatus,
): { withheld?: string } {
  const why = status.phase === 'Active' ? options.withheld(grant, status) : undefined;
  return why === undefined ? {} : { withheld: why };
}

function hashesOf(
  { cache, definitions }: GrantControllerOptions,
  { metadata, spec }: AccessGrant,
  account: string,
  commands: readonly string[],
): string[] | undefined {
  const { namespace } = metadata;
  const name = spec.connectionRef.name;
  const connection = cache.get<Connection>({ kind: 'Connection', ...(namespace ? { namespace } : {}), name });
  const definition = definitions.find(({ type }) => type === connection?.spec.type);
  if (connection === undefined || definition?.commandHash === undefined) return undefined;
  return commands.map((text) => definition.commandHash!(connection, account, text));
}

/** A proxy tells of what it served: its word opens nothing, it only makes a review due. */
function sealedUsesOf(
  cache: ControllerContext['cache'],
  { metadata }: AccessGrant,
): NonNullable<AccessGrantStatus['sealedUses']> {
  return cache
    .list<ProxyReplica>('ProxyReplica', metadata.namespace)
    .flatMap(({ metadata: replica, spec }) =>
      (spec?.sealedUses ?? [])
        .filter(({ uid }) => uid === metadata.uid)
        .flatMap(({ startedAt }) => startedAt.map((at) => ({ replica: replica.name, startedAt: at }))),
    )
    .sort((a, b) => (a.startedAt < b.startedAt ? -1 : 1));
}

const OPERATOR = { username: 'sallyport' };

function actsOf(grant: AccessGrant, before: AccessGrantStatus | undefined, after: AccessGrantStatus): ControlBody[] {
  const acts: ControlBody[] = [];
  const object = objectOf(grant);
  if (before === undefined) {
    const { requester: _requester, commands, ...rest } = grant.spec;
    const asked = commands === undefined ? rest : { ...rest, commands: commands.length };
    acts.push({
      act: 'grant.request',
      actor: actorOf(grant.spec.requester),
      object,
      details: { ...asked, specHash: specHash(grant.spec) },
    });
  }
  if (before?.expiresAt === undefined && after.expiresAt !== undefined) {
    acts.push({
      act:
        grant.spec.breakGlass === true && (after.approvals ?? []).length === 0 ? 'grant.break-glass' : 'grant.approve',
      actor: OPERATOR,
      object,
      details: {
        policy: after.policy,
        account: after.account,
        approvals: (after.approvals ?? []).map(({ step, approver, at }) => ({ step, approver, at })),
        notBefore: after.notBefore,
        expiresAt: after.expiresAt,
      },
    });
  }
  for (const use of (after.sealedUses ?? []).slice((before?.sealedUses ?? []).length)) {
    acts.push({
      act: 'grant.sealed-use',
      actor: { username: use.replica },
      object,
      details: { startedAt: use.startedAt },
    });
  }
  if (before?.phase !== after.phase && after.phase !== 'Pending') {
    acts.push({
      act: `grant.${after.phase.toLowerCase()}`,
      actor: after.finishedBy === undefined ? OPERATOR : { username: after.finishedBy },
      object,
      ...(after.message ? { details: { message: after.message } } : {}),
    });
  }
  return acts;
}

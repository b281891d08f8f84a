// Decides CommandHolds. The decision reaches the proxy as a Release in the signed bundle (bundles/releases.ts).
import type { AccessApproval, AccessGrant } from '../../api/grant.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { Principal } from '../../policy/principal.ts';
import type { ControlBody } from '../../recording/envelope.ts';
import { actorOf, objectOf, recordAct, tellApprovals } from '../grants/controller.ts';
import { beneficiaryOf } from '../grants/people.ts';
import type { ControllerContext } from '../ports.ts';
import type { CacheEvent, Reconcile } from '../runtime.ts';
import { keyOf, splitKey } from '../runtime.ts';
import { sameStatus, writeStatus } from '../status.ts';
import { decideHold, sealedHold } from './decide.ts';

export function holdsTouchedBy(event: CacheEvent): string[] {
  const namespace = event.object.metadata.namespace;
  if (event.kind === 'CommandHold') return [keyOf(namespace, event.object.metadata.name)];
  if (event.kind !== 'AccessApproval') return [];
  const { targetRef } = (event.object as AccessApproval).spec;
  return targetRef.kind === 'CommandHold' ? [keyOf(namespace, targetRef.name)] : [];
}

export interface HoldControllerOptions extends ControllerContext {
  /** Why a hold that is not decided yet is not believed; undefined: it is. */
  doubt?(hold: CommandHold): string | undefined;
}

export function createHoldReconciler(context: HoldControllerOptions): Reconcile {
  const { cache, sealer, clock } = context;
  /** Whatever the proxy tells of the requester: who the grant's own stamp names does not consent either. */
  const barredFrom = ({ metadata, spec }: CommandHold): Principal[] => {
    const { namespace } = metadata;
    const grant = cache.get<AccessGrant>({
      kind: 'AccessGrant',
      ...(namespace ? { namespace } : {}),
      name: spec.grantRef.name,
    });
    if (grant === undefined || grant.metadata.uid !== spec.grantRef.uid) return [];
    const stamp = sealer.checkStamp(grant.spec.requester, grant.spec, grant.metadata.creationTimestamp);
    if (stamp.kind === 'Bad') return [];
    const beneficiary = beneficiaryOf(grant.spec);
    return beneficiary === undefined ? [stamp.principal] : [stamp.principal, beneficiary];
  };
  return async (key) => {
    const { namespace, name } = splitKey(key);
    const hold = cache.get<CommandHold>({ kind: 'CommandHold', ...(namespace ? { namespace } : {}), name });
    if (hold === undefined) return undefined;
    const approvals = cache.indexed<AccessApproval>('AccessApproval', 'target', `CommandHold ${key}`);
    const before = sealedHold(hold, sealer);
    const decision = decideHold(hold, approvals, sealer, clock.now(), context.doubt?.(hold), barredFrom(hold));
    const tightens = decision.status.phase !== 'Approved';
    const untold = await tellApprovals(context, approvals, decision.votes);
    if (untold !== undefined && !tightens) throw untold;
    if (!sameStatus(hold.status, decision.status)) {
      if (before === undefined && decision.status.phase !== 'Waiting') {
        const body: ControlBody = {
          act: `hold.${decision.status.phase.toLowerCase()}`,
          actor: decision.status.decidedBy
            ? { username: decision.status.decidedBy.join(', ') }
            : { username: 'sallyport' },
          object: objectOf(hold),
          details: {
            session: hold.spec.sessionId,
            requester: actorOf(hold.spec.requester).username,
            commandHash: hold.spec.commandHash,
            ...(decision.status.reason ? { reason: decision.status.reason } : {}),
          },
        };
        await recordAct(context, body, tightens);
      }
      await writeStatus(context, hold, decision.status);
    }
    if (untold !== undefined) throw untold;
    return decision.nextMs === undefined ? undefined : { againInMs: decision.nextMs - clock.now() };
  };
}

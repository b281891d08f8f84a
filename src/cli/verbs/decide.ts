// approve, deny, revoke, withdraw, sign-off: shows what is decided about, asks, and creates the AccessApproval with the
// hash of exactly what was shown.
import { specHash } from '../../api/canonical.ts';
import { formatDuration } from '../../api/duration.ts';
import type { AccessApproval, AccessApprovalSpec, AccessGrant } from '../../api/grant.ts';
import { API_GROUP_VERSION } from '../../api/group.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { AccessPolicy, Rule } from '../../api/policy.ts';
import { insightOf } from '../../policy/insight.ts';
import { subjectText } from '../../policy/subjects.ts';
import { unlessForbidden } from '../cluster/failures.ts';
import { type Context, findTarget, nextCommand } from '../context.ts';
import { CliError, EXIT, type ExitCode, paint } from '../io.ts';
import { age, block, clockTime, facts, line } from '../render.ts';
import { waitWhile } from './wait.ts';

export interface DecideOptions {
  reason?: string;
  yes?: boolean;
}

type Decision = AccessApprovalSpec['decision'];
const VERBS: Readonly<Record<string, string>> = {
  Approve: 'Approve',
  Deny: 'Deny',
  Revoke: 'Revoke',
  Withdraw: 'Withdraw',
  SignOff: 'Sign off',
};

export async function decide(
  context: Context,
  decision: Decision,
  name: string,
  options: DecideOptions,
): Promise<ExitCode> {
  const { io, client, actor } = context;
  const target = await findTarget(context, name);
  io.err(
    target.kind === 'CommandHold'
      ? describeHold(target, context.now())
      : describeGrant(target, context.now()) + (await background(context, target)),
  );
  if (options.yes !== true) {
    if (!io.inTty) {
      throw new CliError(
        EXIT.misconfigured,
        'Nobody is there to confirm it',
        'Add --yes to decide without being asked.',
      );
    }
    if (!(await io.ask(`${VERBS[decision]} as ${actor.username}? [y/N] `))) {
      io.err('Nothing was decided.\n');
      return EXIT.failed;
    }
  }
  const result = await client.create(actor, {
    apiVersion: API_GROUP_VERSION,
    kind: 'AccessApproval',
    metadata: { name: `${target.metadata.name}-`, namespace: target.metadata.namespace ?? 'default' },
    spec: {
      targetRef: { kind: target.kind, name: target.metadata.name, uid: target.metadata.uid },
      specHash: specHash(target.spec),
      decision,
      ...(options.reason !== undefined ? { reason: options.reason } : {}),
    } satisfies AccessApprovalSpec,
  });
  if (result.kind === 'Invalid')
    throw new CliError(EXIT.misconfigured, `It is not valid: ${result.problems.join('; ')}`);
  if (result.kind === 'NotEligible') throw new CliError(EXIT.denied, result.message, result.hint || undefined);
  if (result.kind !== 'Ok') {
    throw new CliError(EXIT.failed, 'message' in result ? result.message : 'The decision could not be stored');
  }
  return outcome(context, target, result.value as AccessApproval);
}

/** Waits for the operator's word on whether it counts, and tells what became of the target. */
async function outcome(
  context: Context,
  target: AccessGrant | CommandHold,
  approval: AccessApproval,
): Promise<ExitCode> {
  const { io, actor } = context;
  const { decision } = approval.spec;
  const verdict = (each: AccessApproval) => each.status?.conditions?.find(({ type }) => type === 'Counted');
  const counted = verdict(await waitWhile(context, approval, (each) => verdict(each) === undefined, 10_000));
  if (counted === undefined) {
    io.err(
      `The decision is stored, but the operator has not looked at it yet. See \`${nextCommand(context, `status ${target.metadata.name}`, { namespace: target.metadata.namespace })}\`.\n`,
    );
    return EXIT.pending;
  }
  if (counted.status !== 'True') {
    throw new CliError(
      EXIT.denied,
      `It does not count. ${counted.message}`,
      decision === 'Revoke' && target.kind === 'AccessGrant' && target.spec.requester?.username === actor.username
        ? `Give up your own with: ${nextCommand(context, `withdraw ${target.metadata.name}`, { namespace: target.metadata.namespace })}`
        : `Who may decide is shown by \`${nextCommand(context, 'pending', { namespace: target.metadata.namespace })}\`.`,
    );
  }
  // The approval is told before the target's own status is written.
  const before = JSON.stringify(target.status);
  const same = (each: AccessGrant | CommandHold): boolean => JSON.stringify(each.status) === before;
  const now = await waitWhile<AccessGrant | CommandHold>(context, target, same, 10_000);
  const phase = now.status?.phase ?? 'gone';
  const waiting =
    now.kind === 'AccessGrant' && now.status?.waitingFor ? `; it still needs ${line(now.status.waitingFor)}` : '';
  const until =
    now.kind === 'AccessGrant' && now.status?.phase === 'Active'
      ? ` until ${clockTime(now.status.expiresAt, context.now())}`
      : '';
  io.out(
    `${target.metadata.name} is ${paint(io, phase === 'Active' || phase === 'Approved' ? 'green' : 'yellow', phase)}${until}${waiting}.\n`,
  );
  return EXIT.ok;
}

export function describeGrant(grant: AccessGrant, nowMs: number): string {
  const { spec, status } = grant;
  const groups = spec.requester?.groups ?? [];
  const what = [
    `Connection ${spec.connectionRef.name}`,
    status?.account && `as account ${status.account}`,
    status?.policy && `under policy ${status.policy.name}`,
  ];
  return (
    facts([
      ['Grant', `${grant.metadata.namespace}/${grant.metadata.name} (${status?.phase ?? 'new'})`],
      [
        'Who',
        line(`${spec.requester?.username ?? 'unknown'}${groups.length > 0 ? ` (groups ${groups.join(', ')})` : ''}`),
      ],
      ['For', spec.beneficiary && line(`${spec.beneficiary.name ?? '?'}, not who asked`)],
      ['What', line(what.filter(Boolean).join(' ')) + (spec.breakGlass ? ', BREAK-GLASS' : '')],
      ['Why', line(spec.reason ?? '(no reason given)') + (spec.ticket ? ` [${line(spec.ticket)}]` : '')],
      [
        'How long',
        `${spec.duration ?? 'as the policy has it'}${spec.notBefore ? ` from ${clockTime(spec.notBefore, nowMs)}` : ''}${spec.extends ? `, extends ${spec.extends.name}` : ''}`,
      ],
      ['Waits for', status?.waitingFor && line(`${status.waitingFor}, until ${clockTime(status.deadline, nowMs)}`)],
      ...(status?.approvals ?? []).map(
        (each) =>
          [
            'Approved by',
            line(`${each.approver} (step ${each.step})${each.reason ? `: ${each.reason}` : ''}`),
          ] as const,
      ),
      ['Until', status?.expiresAt && clockTime(status.expiresAt, nowMs)],
      ['Message', status?.message && line(status.message)],
      [
        'Statements',
        spec.commands?.length ? `${spec.commands.length} to be approved with it, these and no others:` : undefined,
      ],
    ]) + (spec.commands ?? []).map((text, index) => `  ${index + 1}.\n${block(text)}\n`).join('')
  );
}

/** What an approver should know beside the request; without what they may not read. */
async function background(context: Context, grant: AccessGrant): Promise<string> {
  const { client } = context;
  const { namespace } = grant.metadata;
  const ref = grant.status?.policy;
  const [policy, grants] = await Promise.all([
    ref === undefined ? undefined : unlessForbidden(client.get<AccessPolicy>('AccessPolicy', namespace, ref.name)),
    unlessForbidden(client.list<AccessGrant>('AccessGrant', namespace)),
  ]);
  const nowMs = context.now();
  const { history, risks } = insightOf({ grant, policy, grants, nowMs });
  const steps = (policy?.spec.approval?.steps ?? []).map(
    (step) => `${step.name}: ${step.count ?? 1} of ${step.approvers.map(subjectText).join(' or ') || 'nobody'}`,
  );
  const last = history.lastMs === undefined ? '' : `, last ${age(nowMs - history.lastMs)} ago`;
  return facts([
    ['Policy', policy && line(`${policy.metadata.name}; ${steps.join(', then ') || 'no approval needed'}`)],
    ['Rules', policy && line((policy.spec.rules ?? []).map(ruleText).join(', ') || 'none')],
    [
      'Before',
      grants &&
        `${history.requested} other requests here in 90 days, ${history.approved} approved${last}${history.refused > 0 ? `, ${history.refused} refused` : ''}`,
    ],
    ['Mind', risks.length > 0 ? line(risks.map(({ message }) => message).join('; ')) : undefined],
  ]);
}

const ruleText = (rule: Rule): string => `${rule.name} (${rule.preset ?? rule.action ?? '?'})`;

export function describeHold(hold: CommandHold, nowMs: number): string {
  const { spec, status } = hold;
  const leftMs = Date.parse(spec.until) - nowMs;
  return (
    facts([
      ['Hold', `${hold.metadata.namespace}/${hold.metadata.name} (${status?.phase ?? 'Waiting'})`],
      ['Who', line(`${spec.requester.username}, session ${spec.sessionId}, grant ${spec.grantRef.name}`)],
      ['Where', line(spec.connectionRef.name)],
      ['Why held', line(spec.reason)],
      ['Held by', line(spec.rules.map((each) => `${each.policy} rule "${each.rule}"`).join(', '))],
      ['Time left', leftMs > 0 ? formatDuration(leftMs) : 'none'],
      ['Hidden', spec.hiddenLiterals > 0 ? `${spec.hiddenLiterals} values are hidden below` : undefined],
      ['Statement', ''],
    ]) + `${block(spec.command)}\n`
  );
}

// What a policy's status says of it: the Accepted condition, with a sentence that says what to do.
import { formatDuration } from '../api/duration.ts';
import type { CompiledPolicy, CompiledRule } from './bundle.ts';
import { type ReservedField, reservedNote } from './reserved.ts';
import { listText, sentence } from './wording.ts';

export interface PolicyCondition {
  type: 'Accepted';
  status: 'True' | 'False';
  reason: 'Accepted' | 'SelectsNothing' | 'Invalid';
  message: string;
}

/** From the policy as compiled for each Connection it selects (`on`: the Connection's name, for the message). `reserved`: what it says in vain. */
export function conditionsFor(
  compiled: readonly { on: string; policy: CompiledPolicy }[],
  reserved: readonly ReservedField[] = [],
): PolicyCondition[] {
  const bad = compiled.filter(({ policy }) => !policy.accepted);
  if (bad.length > 0) {
    const problems = new Map<string, string[]>();
    for (const { on, policy } of bad) {
      const problem = policy.problem ?? 'it is not accepted';
      problems.set(problem, [...(problems.get(problem) ?? []), on]);
    }
    const told = [...problems].map(([problem, on]) => sentence(`on ${list(on)}: ${problem}`)).join(' ');
    return [
      {
        type: 'Accepted',
        status: 'False',
        reason: 'Invalid',
        message: `Every command is denied ${told}`.slice(0, 32_000),
      },
    ];
  }
  if (compiled.length === 0) {
    return [
      {
        type: 'Accepted',
        status: 'True',
        reason: 'SelectsNothing',
        message: 'It selects no Connection: compare connectionSelector with the names and labels of the Connections.',
      },
    ];
  }
  return [
    {
      type: 'Accepted',
      status: 'True',
      reason: 'Accepted',
      message: `In force on ${list(compiled.map(({ on }) => on))}.${loginNote(compiled[0]!.policy)}${advisoryNote(compiled[0]!.policy)}${reservedNote(reserved)}`,
    },
  ];
}

/** Rules about files bind file transfers; a program or a shell that is allowed as well opens what its user may. */
function advisoryNote({ kind, rules }: CompiledPolicy): string {
  const about = (rule: CompiledRule, ...fields: string[]): boolean =>
    rule.matcher?.member === 'ssh' && fields.some((field) => Object.hasOwn(rule.matcher!.value as object, field));
  const denied = rules.filter((rule) => rule.action !== 'Allow' && about(rule, 'paths'));
  // A guardrail does not know what policies allow.
  const open =
    kind === 'ClusterAccessPolicy' ||
    rules.some((rule) => rule.action === 'Allow' && (rule.matcher === undefined || about(rule, 'commands', 'shell')));
  if (denied.length === 0 || !open) return '';
  return ` Advisory beside programs and shells, which open files as they like: ${listText(denied.map(({ ref }) => `rule "${ref.rule}"`))}; let the account’s rights at the target forbid it as well.`;
}

/** What becomes of people who log in by the cluster's identity alone: a ticket proves a key, not a login. */
function loginNote({ session: { reauthenticateMs, stepUp } }: CompiledPolicy): string {
  if (stepUp !== undefined && stepUp.length > 0) {
    return ' session.stepUp: only tokens of an IdentityProvider tell how somebody logged in, so tickets open no session.';
  }
  if (reauthenticateMs === undefined) return '';
  const length = formatDuration(reauthenticateMs);
  return ` session.reauthenticate: only tokens of an IdentityProvider renew a session; who has none is ended after ${length} and connects again.`;
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}

// What makes a request one that is refused whoever would approve it. Pure; each fault is a sentence with what to do.
import { parseDuration } from '../../api/duration.ts';
import type { AccessGrant } from '../../api/grant.ts';
import type { AccessPolicy } from '../../api/policy.ts';
import { STEP_UP_ACTS } from '../../api/schema.ts';
import { LONGEST_GRANT_MS } from '../../policy/compile-checks.ts';
import { type LoginFacts, type StepUpNeed, stepUpLack, stepUpNeed } from '../../policy/step-up.ts';
import type { GrantFacts } from './decide.ts';

/** What makes a request senseless whoever asks it under whatever policy. */
export function requestFault({ spec }: AccessGrant): string | undefined {
  if (spec.sealed !== undefined) {
    const validMs = parseDuration(spec.sealed.validFor);
    if (validMs === undefined || validMs > LONGEST_GRANT_MS)
      return 'A sealed grant can be opened for 30 days at most; give --valid-for 720h or less.';
    if (spec.clientKey === undefined || (spec.reason ?? '').trim() === '')
      return 'A sealed grant needs a key to open it with, and a reason. The verb seal gives both.';
  }
  if (spec.breakGlass === true && (spec.reason ?? '').trim() === '')
    return 'Break-glass needs a reason: say what the emergency is, with --reason.';
  const hashes = spec.commandHashes ?? [];
  if (hashes.length > 0 && hashes.length !== (spec.commands ?? []).length)
    return 'commandHashes holds hashes without their statements, and nobody consents to what they can not read. Put the statements into commands; sallyport request --command-file does it.';
  return undefined;
}

/** Why the statements can not be approved with the grant as they stand. */
export function commandsFault(
  { spec }: AccessGrant,
  account: string | undefined,
  facts: GrantFacts,
): string | undefined {
  if (spec.commands === undefined || spec.commands.length === 0) return undefined;
  const hashes = account === undefined ? undefined : facts.commandHashes?.(account, spec.commands);
  if (hashes === undefined) return 'Statements can not be approved beforehand on this type of Connection.';
  const wrong = (spec.commandHashes ?? []).findIndex((hash, index) => hash !== hashes[index]);
  return wrong < 0
    ? undefined
    : `commandHashes[${wrong}] is not the hash of commands[${wrong}] for this account and database. Leave commandHashes out; it is computed here.`;
}

export function stepUpOn(policy: AccessPolicy | undefined, act: 'Request' | 'Approve'): StepUpNeed[] {
  const spec = policy?.spec.approval?.stepUp;
  if (policy === undefined || spec === undefined || !(spec.on ?? STEP_UP_ACTS).includes(act)) return [];
  return [stepUpNeed(`${policy.metadata.namespace ?? ''}/${policy.metadata.name}`, spec)];
}

export function stepUpFault(
  policy: AccessPolicy,
  login: LoginFacts | undefined,
  atMs: number,
  facts: GrantFacts,
): string | undefined {
  const lack = stepUpLack(stepUpOn(policy, 'Request'), login, atMs);
  if (lack === undefined) return undefined;
  const where = facts.portal === undefined ? 'on the approval page' : `at ${facts.portal}`;
  return `To ask for this, ${lack}. Log in again and request it ${where}; what is asked by ${facts.prefix} does not say how one logged in.`;
}

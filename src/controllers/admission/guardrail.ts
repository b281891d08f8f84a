// Judges a ClusterAccessPolicy before it is stored: one that does not compile would deny everything it selects, in every
// namespace at once. Pure. Whoever gets one past it (the webhook is away) is told by the policy's conditions.

import type { ClusterAccessPolicy } from '../../api/policy.ts';
import { validateSpec } from '../../api/validate.ts';
import type { AdmissionHandler } from '../../kube/admission-server.ts';
import { guardrailProblems } from '../../policy/compile.ts';
import type { ProtocolRules } from '../../policy/session-policy.ts';
import { sentence } from '../../store/directory/admission.ts';
import type { Log } from '../runtime.ts';

const MOST_TOLD = 8;

/** What is wrong with it, one sentence each; empty: it can be in force. */
export function guardrailFaults(object: unknown, protocols: readonly ProtocolRules[]): string[] {
  const spec = isObject(object) ? object['spec'] : undefined;
  if (!isObject(object) || !isObject(spec)) return ['A ClusterAccessPolicy needs a spec'];
  const faults = validateSpec('ClusterAccessPolicy', spec).map(sentence);
  if (faults.length > 0) return faults;
  const { name } = isObject(object['metadata']) ? object['metadata'] : {};
  const policy = {
    ...object,
    kind: 'ClusterAccessPolicy',
    metadata: { name: typeof name === 'string' ? name : '', uid: '', generation: 0 },
  } as unknown as ClusterAccessPolicy;
  return [...new Set(protocols.flatMap((protocol) => guardrailProblems(policy, protocol)))];
}

export function guardrailHandler(protocols: readonly ProtocolRules[], log: Log): AdmissionHandler {
  return (request) => {
    const { kind, operation } = request;
    if (
      kind.kind !== 'ClusterAccessPolicy' ||
      request.subResource ||
      operation === 'DELETE' ||
      operation === 'CONNECT'
    ) {
      return { kind: 'Allow' };
    }
    const faults = guardrailFaults(request.object, protocols);
    if (faults.length === 0) return { kind: 'Allow' };
    const told = faults.slice(0, MOST_TOLD).map((fault) => fault.replace(/\.?$/, '.'));
    if (faults.length > told.length) told.push(`And ${faults.length - told.length} more.`);
    log('info', 'a ClusterAccessPolicy was refused at admission', {
      name: request.name,
      user: request.userInfo.username,
    });
    return { kind: 'Deny', code: 422, reason: 'Invalid', message: `${told.join(' ')} Nothing was changed.` };
  };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

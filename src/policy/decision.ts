// What the engine answers, and which rule said so.
import type { Subject } from '../api/schema.ts';

/** Names one rule of one policy, as messages and records spell it. */
export interface RuleRef {
  /** `namespace/name`, or the bare name of a ClusterAccessPolicy. */
  policy: string;
  rule: string;
}

export interface HoldRequirement {
  by: RuleRef;
  count: number;
  approvers: readonly Subject[];
  timeoutMs: number;
}

/** Stable codes; each protocol maps them to its native ones. */
export type DenialCode =
  | 'RuleDenied' // a Deny rule matched
  | 'NoRuleAllows' // nothing allowed some effect
  | 'NotUnderstood' // the command could not be parsed where rules or masks apply
  | 'PolicyNotAccepted' // an invalid policy selects this Connection
  | 'MaskedData' // would reveal a masked value
  | 'HoldDenied'
  | 'HoldTimedOut'
  | 'HoldWithdrawn'
  | 'GrantEnded'
  | 'Locked'
  | 'ControllerSilent' // no heartbeat
  | 'RecordsUnwritable'
  | 'LimitReached'
  | 'Unsupported'; // what the gateway never lets through: FunctionCall, replication …

interface Common {
  /** Rules under `enforcement: Warn` that would have denied or held. */
  warnings: readonly RuleRef[];
}
export type Decision =
  | (Common & { kind: 'Allow'; by: readonly RuleRef[] })
  | (Common & { kind: 'Deny'; code: DenialCode; by: RuleRef | undefined; message: string; hint?: string })
  | (Common & { kind: 'Hold'; reason: string; requirements: readonly HoldRequirement[] });

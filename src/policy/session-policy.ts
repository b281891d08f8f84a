// The policy of one session: what a principal may do under one grant, ready to decide. Made once a policy generation.
import type { CompiledMask, CompiledRule } from './bundle.ts';
import type { Command } from './command.ts';
import type { RuleRef } from './decision.ts';

/**
 * The pure half of a protocol: what controllers, CLI and engine need to know of it without opening a socket.
 * `member` is the key of its matcher in a rule (`sql`).
 */
export interface ProtocolRules {
  member: string;
  /** Ready-made rules by preset name; only those that make sense for the protocol. */
  presets: Readonly<Record<string, readonly PresetRule[]>>;
  /** Problems of a matcher beyond its schema, e.g. a pattern that can never match; messages for people. */
  lint(matcher: unknown): readonly string[];
  /** Warnings about the rules of one policy that are in order and yet promise more than they keep. Changes nothing that is enforced. */
  advise?(rules: readonly RuleToAdvise[]): readonly RuleAdvice[];
  /** Prepares a matcher once (patterns compiled); called once a rule and generation. */
  prepare(matcher: unknown): PreparedMatcher;
}

export interface RuleToAdvise {
  name: string;
  action: 'Allow' | 'Deny' | 'Hold';
  enforce: boolean;
  matcher: unknown;
}

export interface RuleAdvice {
  rule: string;
  /** Of the matcher. */
  field: string;
  message: string;
  hint: string;
}

export interface PresetRule {
  name: string;
  action: 'Allow' | 'Deny' | 'Hold';
  matcher?: unknown;
  message?: string;
}

/**
 * Deny and Hold match generously (any reading of an ambiguous name), Allow permits exactly (all readings).
 */
export interface PreparedMatcher {
  /** Whether a Deny or Hold rule with this matcher is about the command. */
  restricts(command: Command): boolean;
  /** Whether an Allow rule with this matcher permits effect `index` of the command. A command runs when every effect is permitted by some Allow. */
  permits(command: Command, index: number): boolean;
  /** Whether it permits effect `index` by a pattern that spells out what it is; asked only of effects that must be named. */
  names?(command: Command, index: number): boolean;
}

export interface SessionRule {
  source: CompiledRule;
  prepared: PreparedMatcher | undefined;
}

export interface SessionPolicy {
  /** Rises with every change that could alter a decision; compare before trusting a cached one. */
  generation: number;
  /** The policy whose allows these are, `namespace/name`; for messages. */
  policy?: string;
  /** Policies that are not accepted: non-empty means everything is denied. */
  broken: readonly { policy: string; problem: string }[];
  denies: readonly SessionRule[];
  holds: readonly SessionRule[];
  allows: readonly SessionRule[];
  masks: readonly CompiledMask[];
  /** Column masks this principal is exempt from: the person sees what they cover, records never do. */
  unmasked?: readonly CompiledMask[];
  trustedFunctions: readonly string[];
  /** Rules and masks that this principal is exempt from, so that explanations can say so. */
  exempted?: readonly RuleRef[];
  /** One Allow without a matcher, no other rule, no mask: commands need not be understood. */
  transparent: RuleRef | undefined;
}

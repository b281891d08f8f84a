// Warnings about policies that are valid and yet probably not what their author means. Pure. A warning never changes
// what is enforced; what must not be enforced as written is a problem of compile.ts instead.
import type { AccessPolicy, ClusterAccessPolicy, Mask, Rule } from '../api/policy.ts';
import type { Subject } from '../api/schema.ts';
import type { CompiledPolicy, CompiledRule } from './bundle.ts';
import { completeColumnPattern } from './compile-rules.ts';
import { globCovers } from './glob.ts';
import { reservedInPolicy } from './reserved.ts';
import type { ProtocolRules } from './session-policy.ts';

export interface PolicyWarning {
  /** JSON pointer of what it is about. */
  path: string;
  message: string;
  /** What to write instead. */
  hint: string;
}

/** `compiled`: the policy for any Connection it selects, for what presets stand for; undefined: presets are not looked into. `protocol`: that Connection’s. */
export function lintPolicy(
  policy: AccessPolicy | ClusterAccessPolicy,
  compiled: CompiledPolicy | undefined,
  protocol?: ProtocolRules,
): PolicyWarning[] {
  const warnings: PolicyWarning[] = [];
  const rules = policy.spec.rules ?? [];
  const masks = policy.spec.masking ?? [];
  rules.forEach((rule, index) => lintRule(rule, `/spec/rules/${index}`, warnings));
  masks.forEach((mask, index) => lintMask(mask, `/spec/masking/${index}`, warnings));
  if (policy.kind === 'AccessPolicy') lintOwn(policy, warnings);
  warnings.push(...reservedInPolicy(policy));
  if ((policy.spec.trustedFunctions?.length ?? 0) > 0 && !masks.some(({ columns }) => columns !== undefined))
    warnings.push({
      path: '/spec/trustedFunctions',
      message: 'functions are trusted for the masks of their own policy, and this one masks no column',
      hint: 'move the list to the policies whose masks it is about',
    });
  if (compiled !== undefined) {
    lintShadows(rules, compiled.rules, warnings);
    if (protocol !== undefined) lintByProtocol(rules, compiled.rules, protocol, warnings);
  }
  return warnings.sort((a, b) => comparePaths(a.path, b.path));
}

function comparePaths(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

function lintRule(rule: Rule, path: string, warnings: PolicyWarning[]): void {
  if (rule.action === 'Deny' && rule.message === undefined)
    warnings.push({
      path,
      message: `rule "${rule.name}" denies without a message`,
      hint: 'write message: what the person can do instead',
    });
  if (rule.hold !== undefined && rule.hold.approvers.length === 0)
    warnings.push({
      path: `${path}/hold/approvers`,
      message: `rule "${rule.name}" holds, and nobody may consent: every held command ends in a time-out`,
      hint: 'name approvers, or write action: Deny',
    });
  for (const [member, value] of Object.entries(rule)) {
    if (['name', 'action', 'preset', 'exempt', 'message', 'hold'].includes(member)) continue;
    if (typeof value === 'object' && value !== null && Object.keys(value).length === 0)
      warnings.push({
        path: `${path}/${member}`,
        message: `${member} of rule "${rule.name}" is empty, so the rule is about every command`,
        hint: `leave ${member} out if that is meant`,
      });
  }
  lintSubjects(rule.exempt, `${path}/exempt`, warnings);
  lintSubjects(rule.hold?.approvers, `${path}/hold/approvers`, warnings);
}

function lintMask(mask: Mask, path: string, warnings: PolicyWarning[]): void {
  mask.columns?.forEach((pattern, index) => {
    const full = completeColumnPattern(pattern);
    if (full !== undefined && full !== pattern)
      warnings.push({
        path: `${path}/columns/${index}`,
        message: `"${pattern}" names no ${full.startsWith('*.*.') ? 'table' : 'schema'} and means ${full}`,
        hint: `write ${full}, or the schema that is meant`,
      });
  });
  lintSubjects(mask.exempt, `${path}/exempt`, warnings);
}

function lintOwn(policy: AccessPolicy, warnings: PolicyWarning[]): void {
  const { spec } = policy;
  lintSubjects(spec.subjects, '/spec/subjects', warnings);
  spec.approval?.steps.forEach((step, index) => {
    const path = `/spec/approval/steps/${index}/approvers`;
    if (step.approvers.length === 0)
      warnings.push({
        path,
        message: `step "${step.name}" has nobody who may approve, so no request is ever granted`,
        hint: 'name approvers, or remove the step',
      });
    const count = step.count ?? 1;
    const onlyPersons = step.approvers.every(({ kind }) => kind === 'User' || kind === 'ServiceAccount');
    if (step.approvers.length > 0 && onlyPersons && step.approvers.length < count)
      warnings.push({
        path,
        message: `step "${step.name}" needs ${count} approvals and names ${step.approvers.length} who may give one`,
        hint: 'name more approvers, or lower count',
      });
    lintSubjects(step.approvers, path, warnings);
  });
  const allows = (spec.rules ?? []).some(({ action, preset }) => action === 'Allow' || preset?.startsWith('Read'));
  if (!allows)
    warnings.push({
      path: '/spec/rules',
      message: 'no rule allows anything, so whoever is granted access under this policy is denied every command',
      hint: 'add a rule with action: Allow, or preset: ReadOnly',
    });
}

function lintSubjects(subjects: readonly Subject[] | undefined, path: string, warnings: PolicyWarning[]): void {
  subjects?.forEach((subject, index) => {
    if (subject.kind === 'Claim') warnings.push(...lintClaims(subject, `${path}/${index}`));
    else if (subject.name === undefined)
      warnings.push({
        path: `${path}/${index}`,
        message: `a ${subject.kind} without a name matches nobody`,
        hint: 'write name',
      });
    else if (subject.name.includes('*'))
      warnings.push({
        path: `${path}/${index}/name`,
        message: `"${subject.name}" is taken literally: subjects have no wildcards`,
        hint: 'write the whole name, or a Group',
      });
  });
}

/** Whether a claim is an id that stays the same, of what the workload belongs to and not of the whole organisation. */
const isStableId = (name: string): boolean =>
  /(^|_)(id|uid|oid)$/.test(name) && !/^(repository_owner|namespace|user|actor)_id$/.test(name);

function lintClaims({ provider, claims = {} }: Subject, path: string): PolicyWarning[] {
  const names = Object.keys(claims);
  const has = (...any: string[]): boolean => any.some((name) => names.includes(name));
  const warnings: PolicyWarning[] = [];
  const warn = (message: string, hint: string, field = '/claims'): void => {
    warnings.push({ path: `${path}${field}`, message, hint });
  };
  if (provider === undefined || names.length === 0) {
    warn('a Claim subject without a provider or without claims matches nobody', 'write provider and claims', '');
    return warnings;
  }
  if (has('sub')) {
    warn(
      'a Claim subject that goes by sub matches nobody: what issuers write there has changed before',
      'write the claims that sub is made of, such as repository_id and ref',
    );
  }
  for (const [name, value] of Object.entries(claims)) {
    if (value.includes('*'))
      warn(
        `"${value}" is taken literally: claims have no wildcards`,
        'write one subject for each value',
        `/claims/${name}`,
      );
  }
  if (!names.some(isStableId)) {
    warn(
      'no claim is an id that stays: a repository that is renamed or deleted leaves its name to whoever takes it next',
      'write repository_id, project_id or what the issuer has in their place',
    );
  }
  const ofPipeline = names.some((name) => /^(repository|project)(_|$)/.test(name));
  if (has('ref') && !has('ref_type')) {
    warn('a branch and a tag may share a name', 'write ref_type beside ref: branch or tag');
  } else if (ofPipeline && !has('ref', 'ref_path', 'environment')) {
    warn('jobs of any branch and any environment fit', 'write environment, or ref and ref_type');
  }
  return warnings;
}

/** Rules that another rule of the same policy makes pointless. */
function lintShadows(source: readonly Rule[], rules: readonly CompiledRule[], warnings: PolicyWarning[]): void {
  const told = new Set<string>();
  rules.forEach((rule, at) => {
    const name = rule.ref.rule.split('.')[0]!;
    const index = source.findIndex((each) => each.name === name);
    const shadow = rules.find((other, where) => other !== rule && shadows(other, rule, where < at));
    if (index < 0 || shadow === undefined || told.has(name)) return;
    // Rules of one preset belong together.
    if (shadow.ref.rule.split('.')[0] === name) return;
    told.add(name);
    warnings.push({
      path: `/spec/rules/${index}`,
      message:
        rule.action === 'Allow' && shadow.action === 'Deny'
          ? `rule "${name}" can never allow anything: rule "${shadow.ref.rule}" denies all that it matches`
          : `rule "${name}" changes nothing: rule "${shadow.ref.rule}" already covers all that it matches`,
      hint: 'remove it, or narrow the other rule',
    });
  });
}

function lintByProtocol(
  source: readonly Rule[],
  rules: readonly CompiledRule[],
  protocol: ProtocolRules,
  warnings: PolicyWarning[],
): void {
  const own = rules.map(({ ref, action, enforce, matcher }) => ({
    name: ref.rule,
    action,
    enforce,
    matcher: matcher?.value,
  }));
  for (const { rule, field, message, hint } of protocol.advise?.(own) ?? []) {
    const index = source.findIndex(({ name }) => name === rule);
    // Of a preset its author can change nothing.
    if (index < 0) continue;
    warnings.push({
      path: `/spec/rules/${index}/${protocol.member}/${field}`,
      message: `rule "${rule}": ${message}`,
      hint,
    });
  }
}

/** Whether `over` decides everything that `rule` is about, so that `rule` makes no difference. `earlier` breaks ties of equals. */
function shadows(over: CompiledRule, rule: CompiledRule, earlier: boolean): boolean {
  if (!over.enforce || over.exempt.length > 0 || !covers(over.matcher?.value, rule.matcher?.value)) return false;
  if (over.action === 'Deny' && rule.action !== 'Deny') return true;
  if (over.action !== rule.action || over.action === 'Hold') return false;
  return earlier || !covers(rule.matcher?.value, over.matcher?.value);
}

/** Fields of a matcher are and-ed and their values or-ed: wider means fewer fields, each with wider values. */
function covers(wide: unknown, narrow: unknown): boolean {
  if (wide === undefined) return true;
  if (narrow === undefined || !isRecord(wide) || !isRecord(narrow)) return false;
  return Object.entries(wide).every(([field, values]) => {
    const own = narrow[field];
    if (!Array.isArray(values) || !Array.isArray(own)) return own === values;
    return own.every((value) =>
      values.some((other) =>
        typeof other === 'string' && typeof value === 'string' ? globCovers(other, value) : other === value,
      ),
    );
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// The `x-kubernetes-validations` of the schemas, as functions: an API server runs the CEL text, local mode runs these.
// Each rule's text is its key here; a test asserts that both sides list the same rules, and what each one says of
// examples. A rule without its function makes validation throw, so that none is skipped in silence.
import type { CelRule } from './schema.ts';

type Fields = Readonly<Record<string, unknown>>;
const fields = (value: unknown): Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
const has = (value: unknown, member: string): boolean => fields(value)[member] !== undefined;
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

/** Compares an object with what it was. Rules on the past (`oldSelf`) are the store's to keep, not these functions'. */
export const IMMUTABLE = 'self == oldSelf';

/** Each says whether `self` keeps the rule. They are total: a value of the wrong shape is the schema's business. */
export const CEL_CHECKS: ReadonlyMap<string, (self: unknown) => boolean> = new Map<string, (self: unknown) => boolean>([
  [
    "self.kind == 'Claim' ? has(self.provider) && has(self.claims) : has(self.name)",
    (self) => (fields(self).kind === 'Claim' ? has(self, 'provider') && has(self, 'claims') : has(self, 'name')),
  ],
  [
    "self.type != 'PostgreSQL' || has(self.postgresql)",
    (self) => fields(self).type !== 'PostgreSQL' || has(self, 'postgresql'),
  ],
  ["self.type != 'SSH' || has(self.ssh)", (self) => fields(self).type !== 'SSH' || has(self, 'ssh')],
  ['has(self.hostKeys) || has(self.hostAuthorities)', (self) => has(self, 'hostKeys') || has(self, 'hostAuthorities')],
  ['has(self.secretRef) != has(self.certificate)', (self) => has(self, 'secretRef') !== has(self, 'certificate')],
  [
    "self.type == 'SSH' || self.accounts.all(account, has(account.secretRef))",
    (self) => fields(self).type === 'SSH' || list(fields(self).accounts).every((account) => has(account, 'secretRef')),
  ],
  ["self.type != 'Slack' || has(self.slack)", (self) => fields(self).type !== 'Slack' || has(self, 'slack')],
  ["self.type != 'Webhook' || has(self.webhook)", (self) => fields(self).type !== 'Webhook' || has(self, 'webhook')],
  ["self.type != 'Jira' || has(self.jira)", (self) => fields(self).type !== 'Jira' || has(self, 'jira')],
  [
    "self.type != 'ServiceNow' || has(self.serviceNow)",
    (self) => fields(self).type !== 'ServiceNow' || has(self, 'serviceNow'),
  ],
  [
    'has(self.tokenSecretRef) != has(self.webhookSecretRef)',
    (self) => has(self, 'tokenSecretRef') !== has(self, 'webhookSecretRef'),
  ],
  ['!has(self.tokenSecretRef) || has(self.channel)', (self) => !has(self, 'tokenSecretRef') || has(self, 'channel')],
  ["self.type != 'Volume' || has(self.volume)", (self) => fields(self).type !== 'Volume' || has(self, 'volume')],
  [
    "self.audiences.all(a, a.use != 'Access' || has(a.clients))",
    (self) => list(fields(self).audiences).every((each) => fields(each).use !== 'Access' || has(each, 'clients')),
  ],
  ['!(has(self.ca) && has(self.caFile))', (self) => !(has(self, 'ca') && has(self, 'caFile'))],
  [
    "!has(self.sourceRanges) || (has(self.type) && self.type == 'LoadBalancer')",
    (self) => !has(self, 'sourceRanges') || fields(self).type === 'LoadBalancer',
  ],
  ['has(self.action) != has(self.preset)', (self) => has(self, 'action') !== has(self, 'preset')],
  [
    "!has(self.action) || self.action != 'Hold' || has(self.hold)",
    (self) => fields(self).action !== 'Hold' || has(self, 'hold'),
  ],
  [
    "has(self.hold) ? (has(self.action) ? self.action == 'Hold' : has(self.preset) && self.preset == 'HoldSchemaAndPrivilegeChanges') : true",
    (self) =>
      !has(self, 'hold') ||
      (has(self, 'action') ? fields(self).action === 'Hold' : fields(self).preset === 'HoldSchemaAndPrivilegeChanges'),
  ],
  ['!has(self.preset) || !has(self.sql)', (self) => !has(self, 'preset') || !has(self, 'sql')],
  ['!has(self.preset) || !has(self.ssh)', (self) => !has(self, 'preset') || !has(self, 'ssh')],
  [
    '[has(self.commands), has(self.shell), has(self.subsystems), has(self.paths), has(self.forwarding), has(self.env)].filter(x, x).size() <= 1',
    (self) =>
      ['commands', 'shell', 'subsystems', 'paths', 'forwarding', 'env'].filter((kind) => has(self, kind)).length <= 1,
  ],
  ['!has(self.effects) || has(self.paths)', (self) => !has(self, 'effects') || has(self, 'paths')],
  [
    "!has(self.exempt) || !has(self.action) || self.action != 'Allow'",
    (self) => !has(self, 'exempt') || fields(self).action !== 'Allow',
  ],
  ['has(self.columns) != has(self.detectors)', (self) => has(self, 'columns') !== has(self, 'detectors')],
  [
    "!has(self.rules) || self.rules.all(r, has(r.action) && r.action != 'Allow' || has(r.preset) && r.preset == 'HoldSchemaAndPrivilegeChanges')",
    (self) =>
      list(fields(self).rules).every(
        (rule) =>
          (has(rule, 'action') && fields(rule).action !== 'Allow') ||
          fields(rule).preset === 'HoldSchemaAndPrivilegeChanges',
      ),
  ],
  [
    'has(self.maxAge) || has(self.acr) || has(self.amr)',
    (self) => has(self, 'maxAge') || has(self, 'acr') || has(self, 'amr'),
  ],
  [
    '!has(self.breakGlass) || !self.breakGlass || (has(self.reason) && size(self.reason) > 0)',
    (self) => fields(self).breakGlass !== true || (has(self, 'reason') && fields(self).reason !== ''),
  ],
  [
    '!has(self.sealed) || (has(self.clientKey) && has(self.reason) && size(self.reason) > 0 && !has(self.extends) && !has(self.notBefore) && !has(self.commands) && !(has(self.breakGlass) && self.breakGlass))',
    (self) =>
      !has(self, 'sealed') ||
      (has(self, 'clientKey') &&
        has(self, 'reason') &&
        fields(self).reason !== '' &&
        !has(self, 'extends') &&
        !has(self, 'notBefore') &&
        !has(self, 'commands') &&
        fields(self).breakGlass !== true),
  ],
  [
    "!has(self.beneficiary) || (self.beneficiary.kind == 'User' && !(has(self.breakGlass) && self.breakGlass))",
    (self) =>
      !has(self, 'beneficiary') ||
      (fields(fields(self).beneficiary).kind === 'User' && fields(self).breakGlass !== true),
  ],
  [
    '[has(self.user), has(self.group), has(self.connection), has(self.everything) && self.everything].exists_one(x, x)',
    (self) =>
      [has(self, 'user'), has(self, 'group'), has(self, 'connection'), fields(self).everything === true].filter(Boolean)
        .length === 1,
  ],
]);

/** A schema as data: what walking it needs. */
export interface SchemaNode {
  type?: string;
  properties?: Readonly<Record<string, SchemaNode>>;
  items?: SchemaNode;
  additionalProperties?: boolean | SchemaNode;
  required?: readonly string[];
  enum?: readonly unknown[];
  pattern?: string;
  format?: string;
  description?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  'x-kubernetes-validations'?: readonly CelRule[];
  'x-kubernetes-list-type'?: string;
  'x-kubernetes-list-map-keys'?: readonly string[];
}

export interface BrokenRule {
  /** JSON pointer of the value that the rule is on. */
  path: string;
  rule: CelRule;
}

/** Every rule of `schema` and what is below it that `value` breaks. Rules on the past (`oldSelf`) are left out. */
export function brokenRules(schema: SchemaNode, value: unknown, path = ''): BrokenRule[] {
  const found: BrokenRule[] = [];
  for (const rule of schema['x-kubernetes-validations'] ?? []) {
    if (rule.rule.includes('oldSelf')) continue;
    const check = CEL_CHECKS.get(rule.rule);
    if (check === undefined) throw new Error(`no local counterpart of the rule ${rule.rule}`);
    if (!check(value)) found.push({ path, rule });
  }
  if (Array.isArray(value) && schema.items !== undefined) {
    value.forEach((item, index) => found.push(...brokenRules(schema.items!, item, `${path}/${index}`)));
  } else if (schema.properties !== undefined) {
    for (const [name, child] of Object.entries(schema.properties)) {
      const member = fields(value)[name];
      if (member !== undefined) found.push(...brokenRules(child, member, `${path}/${name}`));
    }
  }
  return found;
}

/** Whether specs of the schema may never change. */
export function isImmutable(schema: SchemaNode): boolean {
  return schema['x-kubernetes-validations']?.some((rule) => rule.rule === IMMUTABLE) ?? false;
}

// The form of policy tests: YAML documents of kind PolicyTest. They are files for `sallyport policy test`, no resources:
// nothing serves them. Closed objects, so that a mistyped field is an error and not a test that tests less.
import Type, { type Static } from 'typebox';
import { API_GROUP_VERSION, closed, Name } from '../../api/schema.ts';
import { type Problem, validateValue } from '../../api/validate.ts';

/** Allow, Deny and Hold are about the statement; NoAccess: no policy gives this user the access in the first place. */
export const EXPECTATIONS = ['Allow', 'Deny', 'Hold', 'NoAccess'] as const;

const Text = (description: string) => Type.String({ minLength: 1, maxLength: 512, description });
const Statement = Type.String({ minLength: 1, maxLength: 65536 });
const Texts = (description: string) => Type.Array(Text(description), { maxItems: 64, description });

const who = {
  user: Type.Optional(Text('Username as policies spell it.')),
  groups: Type.Optional(Texts('Groups of the user.')),
  connection: Type.Optional(Text('Connection as `namespace/name`.')),
  account: Type.Optional(Text('Account asked for; default: the policy’s first.')),
  policy: Type.Optional(Text('AccessPolicy asked under; needed where several are eligible.')),
  schema: Type.Optional(Text('File with the output of `sallyport catalog export`, beside this one.')),
};

export const PolicyCase = closed({
  name: Type.Optional(Text('What the case shows; default: its statement.')),
  ...who,
  statement: Type.Optional({ ...Statement, description: 'One text; several statements in it are judged whole.' }),
  statements: Type.Optional(
    Type.Array(Statement, {
      minItems: 1,
      maxItems: 256,
      description: 'Several texts, judged one by one; each must give what is expected.',
    }),
  ),
  parameters: Type.Optional(
    Type.Array(Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Null()]), { maxItems: 256 }),
  ),
  expect: Type.Enum([...EXPECTATIONS], { description: 'What must come of it.' }),
  rule: Type.Optional(Text('Rule that must have said so: `policy/rule`, or the rule’s name alone.')),
  code: Type.Optional(Text('Code that a denial must have, such as NoRuleAllows.')),
  warnings: Type.Optional(Texts('Rules under Warn that must have matched, and no others.')),
  masked: Type.Optional(Texts('Columns that must be masked, and no others: `table.column` or `column`.')),
});
export type PolicyCase = Static<typeof PolicyCase>;

export const PolicyTestSpec = closed({
  defaults: Type.Optional(closed(who, { description: 'Taken by every case that does not say otherwise.' })),
  cases: Type.Array(PolicyCase, { minItems: 1, maxItems: 4096 }),
});
export type PolicyTestSpec = Static<typeof PolicyTestSpec>;

const PolicyTest = closed({
  apiVersion: Type.Enum([API_GROUP_VERSION]),
  kind: Type.Enum(['PolicyTest']),
  metadata: Type.Optional(closed({ name: Type.Optional(Name) })),
  spec: PolicyTestSpec,
});

/** A case with its defaults filled in and everything that it needs present. */
export interface ReadyCase {
  name: string;
  user: string;
  groups: readonly string[];
  connection: { namespace: string; name: string };
  account: string | undefined;
  policy: string | undefined;
  schema: string | undefined;
  texts: readonly string[];
  parameters: readonly (string | number | boolean | null)[];
  expect: (typeof EXPECTATIONS)[number];
  rule: string | undefined;
  code: string | undefined;
  warnings: readonly string[] | undefined;
  masked: readonly string[] | undefined;
  /** JSON pointer of the case in its document. */
  path: string;
}

export type ReadTests =
  | { kind: 'Cases'; suite: string | undefined; cases: readonly ReadyCase[] }
  | { kind: 'Bad'; problems: readonly Problem[] };

/** Whether a document says that it is a PolicyTest. */
export function isPolicyTest(document: unknown): boolean {
  return typeof document === 'object' && document !== null && (document as { kind?: unknown }).kind === 'PolicyTest';
}

/** One document to its cases. Problems have the JSON pointer of what they are about. */
export function readPolicyTest(document: unknown): ReadTests {
  const shape = validateValue(PolicyTest, document);
  if (shape.length > 0) return { kind: 'Bad', problems: shape };
  const test = document as Static<typeof PolicyTest>;
  const problems: Problem[] = [];
  const names = new Set<string>();
  const cases = test.spec.cases.flatMap((one, index): ReadyCase[] => {
    const path = `/spec/cases/${index}`;
    const found = readCase({ ...test.spec.defaults, ...one }, path, problems);
    if (found === undefined) return [];
    if (one.name !== undefined && names.has(one.name))
      problems.push({
        path: `${path}/name`,
        message: `two cases are called "${one.name}"`,
        hint: 'give each its own name',
      });
    names.add(found.name);
    return [found];
  });
  return problems.length > 0 ? { kind: 'Bad', problems } : { kind: 'Cases', suite: test.metadata?.name, cases };
}

function readCase(one: PolicyCase, path: string, problems: Problem[]): ReadyCase | undefined {
  const before = problems.length;
  const complain = (field: string, message: string, hint: string): void => {
    problems.push({ path: field === '' ? path : `${path}/${field}`, message, hint });
  };
  if (one.user === undefined)
    complain('', 'missing field "user"', 'write user: alice@corp.example, here or in spec.defaults');
  const [namespace, name, ...rest] = (one.connection ?? '').split('/');
  if (one.connection === undefined)
    complain('', 'missing field "connection"', 'write connection: namespace/name, here or in spec.defaults');
  else if (!namespace || !name || rest.length > 0)
    complain('connection', `"${one.connection}" is no Connection`, 'write it as namespace/name');
  if ((one.statement === undefined) === (one.statements === undefined) && one.expect !== 'NoAccess')
    complain('', 'give exactly one of statement and statements', 'write statement: select 1');
  if (one.expect === 'NoAccess' && (one.rule ?? one.code ?? one.masked ?? one.warnings) !== undefined)
    complain(
      'expect',
      'rule, code, masked and warnings are about a statement, and NoAccess never comes to one',
      'remove them, or expect Deny',
    );
  if (one.code !== undefined && one.expect !== 'Deny')
    complain('code', 'only a denial has a code', 'remove code, or expect Deny');
  if (one.masked !== undefined && one.expect === 'Deny')
    complain('masked', 'a denied statement has no result', 'remove masked, or expect Allow');
  if (problems.length > before) return undefined;
  const texts = one.statements ?? (one.statement === undefined ? [] : [one.statement]);
  return {
    name: one.name ?? texts[0]?.replace(/\s+/g, ' ').trim().slice(0, 120) ?? `access for ${one.user}`,
    user: one.user!,
    groups: one.groups ?? [],
    connection: { namespace: namespace!, name: name! },
    account: one.account,
    policy: one.policy,
    schema: one.schema,
    texts,
    parameters: one.parameters ?? [],
    expect: one.expect,
    rule: one.rule,
    code: one.code,
    warnings: one.warnings,
    masked: one.masked,
    path,
  };
}

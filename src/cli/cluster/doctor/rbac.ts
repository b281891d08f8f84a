// Who may do what, from RBAC's own objects. Pure. It sees what RBAC gives; other authorizers, certificates of
// system:masters and people with access to nodes or etcd it can not see, and the doctor says so.

export interface PolicyRule {
  verbs: readonly string[];
  apiGroups?: readonly string[];
  resources?: readonly string[];
  resourceNames?: readonly string[];
}

interface Named {
  metadata: { name: string; namespace?: string };
}
export interface Role extends Named {
  rules?: readonly PolicyRule[] | null;
}
export interface Subject {
  kind: string;
  name: string;
  namespace?: string;
}
export interface Binding extends Named {
  roleRef: { kind: string; name: string };
  subjects?: readonly Subject[] | null;
}

export interface Rbac {
  clusterRoles: readonly Role[];
  clusterRoleBindings: readonly Binding[];
  /** Of the namespaces that are looked at. */
  roles: readonly Role[];
  roleBindings: readonly Binding[];
}

/** One thing that RBAC can allow. */
export interface Act {
  verbs: readonly string[];
  group: string;
  /** With its subresource: `pods/exec`. */
  resources: readonly string[];
  /** Only these objects matter; absent: any. */
  names?: readonly string[];
}

export interface Holder {
  subject: Subject;
  /** `ClusterRoleBinding ops`, `RoleBinding payments/dev`. */
  by: string;
}

/** Who holds any of `acts` in a namespace (`undefined`: cluster-wide only). One entry a subject. */
export function holdersOf(rbac: Rbac, acts: readonly Act[], namespace: string | undefined): Holder[] {
  const found = new Map<string, Holder>();
  const add = (binding: Binding, rules: readonly PolicyRule[], by: string): void => {
    if (!rules.some((rule) => acts.some((act) => allows(rule, act)))) return;
    for (const subject of binding.subjects ?? []) {
      const key = subjectKey(subject, binding.metadata.namespace);
      if (!found.has(key)) found.set(key, { subject: { ...subject, ...namespaceOf(subject, binding) }, by });
    }
  };
  for (const binding of rbac.clusterRoleBindings) {
    add(binding, clusterRules(rbac, binding.roleRef.name), `ClusterRoleBinding ${binding.metadata.name}`);
  }
  for (const binding of rbac.roleBindings) {
    if (binding.metadata.namespace !== namespace) continue;
    const rules =
      binding.roleRef.kind === 'ClusterRole'
        ? clusterRules(rbac, binding.roleRef.name)
        : (rbac.roles.find(({ metadata }) => metadata.name === binding.roleRef.name && metadata.namespace === namespace)
            ?.rules ?? []);
    add(binding, rules, `RoleBinding ${namespace}/${binding.metadata.name}`);
  }
  return [...found.values()];
}

const clusterRules = (rbac: Rbac, name: string): readonly PolicyRule[] =>
  rbac.clusterRoles.find(({ metadata }) => metadata.name === name)?.rules ?? [];

export function allows(rule: PolicyRule, act: Act): boolean {
  const { verbs, apiGroups = [], resources = [], resourceNames = [] } = rule;
  if (!verbs.includes('*') && !act.verbs.some((verb) => verbs.includes(verb))) return false;
  if (!apiGroups.includes('*') && !apiGroups.includes(act.group)) return false;
  if (!act.resources.some((resource) => matches(resources, resource))) return false;
  // A rule for named objects gives these alone; where no names are asked about, any object would do.
  return (
    resourceNames.length === 0 || act.names === undefined || act.names.some((name) => resourceNames.includes(name))
  );
}

/** `*` stands for all with their subresources, `x/y` for one, and `*` before a slash for that subresource of all. */
function matches(resources: readonly string[], wanted: string): boolean {
  if (resources.includes('*') || resources.includes(wanted)) return true;
  const [, subresource] = wanted.split('/');
  return subresource !== undefined && resources.includes(`*/${subresource}`);
}

function namespaceOf(subject: Subject, binding: Binding): { namespace?: string } {
  if (subject.kind !== 'ServiceAccount') return {};
  const namespace = subject.namespace ?? binding.metadata.namespace;
  return namespace === undefined ? {} : { namespace };
}

const subjectKey = (subject: Subject, fallback: string | undefined): string =>
  `${subject.kind} ${subject.kind === 'ServiceAccount' ? `${subject.namespace ?? fallback}/` : ''}${subject.name}`;

export const subjectText = ({ kind, name, namespace }: Subject): string =>
  kind === 'ServiceAccount' ? `serviceaccount ${namespace}/${name}` : `${kind.toLowerCase()} ${name}`;

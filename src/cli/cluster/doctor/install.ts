// Whether Sallyport is installed whole and its operator lives: kinds, webhook, admission policies, Deployment, Lease,
// and whether this machine's clock agrees with the cluster's (tickets are good for minutes).
import { API_GROUP, API_VERSION } from '../../../api/group.ts';
import { PLURALS } from '../plurals.ts';
import type { Check, Looker, Seen } from './check.ts';

/** Names of the chart's ValidatingAdmissionPolicies, each with a binding of its own name. */
export const ADMISSION_POLICIES = [
  'sallyport-secret-use',
  'sallyport-stamp-accessgrants',
  'sallyport-stamp-accessapprovals',
  'sallyport-stamp-accesslocks',
  'sallyport-finalizers',
  'sallyport-locks',
  'sallyport-pod-access',
  'sallyport-pods',
  'sallyport-tokens',
  'sallyport-managed-objects',
  'sallyport-scale',
  'sallyport-derived-objects',
  'sallyport-record-copies',
  'sallyport-status',
  'sallyport-bundles',
  'sallyport-proxies',
  'sallyport-replicas',
] as const;

const DEFAULT_RELEASE = 'sallyport-system';
const LEASE_LATE_MS = 30_000;
const SKEW_WARN_MS = 30_000;
const SKEW_FAIL_MS = 120_000;
const UPGRADE = 'An admin runs helm upgrade with the chart of this version, or applies its manifests again.';

export interface Install {
  checks: Check[];
  /** Namespace of the operator, as far as it is known. */
  release: string;
}

interface Webhooks {
  webhooks?: {
    name: string;
    failurePolicy?: string;
    clientConfig?: { caBundle?: string; service?: { namespace?: string } };
  }[];
}

export async function checkInstall(look: Looker, nowMs: () => number): Promise<Install> {
  const [kinds, hooks, policies, bindings, skew] = await Promise.all([
    look.get<{ resources: { name: string }[] }>(`/apis/${API_GROUP}/${API_VERSION}`),
    look.get<Webhooks>('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/sallyport'),
    named(look, '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies'),
    named(look, '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings'),
    checkClock(look, nowMs),
  ]);
  const release =
    (hooks.kind === 'Seen' ? hooks.value.webhooks?.[0]?.clientConfig?.service?.namespace : undefined) ??
    DEFAULT_RELEASE;
  const [operator, trust] = await Promise.all([
    checkOperator(look, release, nowMs),
    look.get<{ data?: Record<string, string> }>(`/api/v1/namespaces/${release}/configmaps/sallyport-trust`),
  ]);
  return {
    release,
    checks: [kindsOf(kinds), webhookOf(hooks), admissionOf(policies, bindings), ...operator, trustOf(trust), skew],
  };
}

function kindsOf(found: Seen<{ resources: { name: string }[] }>): Check {
  const check = { area: 'Install', subject: `kinds ${API_GROUP}/${API_VERSION}` } as const;
  if (found.kind !== 'Seen') {
    return {
      ...check,
      state: 'Fail',
      message: 'The cluster does not serve them: Sallyport is not installed, or another version is',
      fix: 'An admin installs it: helm install sallyport charts/sallyport -n sallyport-system --create-namespace',
    };
  }
  const served = new Set(found.value.resources.map(({ name }) => name));
  const missing = Object.values(PLURALS).filter((plural) => !served.has(plural));
  return missing.length === 0
    ? { ...check, state: 'Ok', message: `All ${Object.keys(PLURALS).length} are served` }
    : { ...check, state: 'Fail', message: `Not served: ${missing.join(', ')}`, fix: UPGRADE };
}

function webhookOf(found: Seen<Webhooks>): Check {
  const check = { area: 'Install', subject: 'stamping webhook' } as const;
  if (found.kind === 'Hidden') {
    return { ...check, state: 'Unknown', message: 'You may not read mutatingwebhookconfigurations' };
  }
  const hook =
    found.kind === 'Seen' ? found.value.webhooks?.find(({ name }) => name === 'stamp.sallyport.dev') : undefined;
  if (hook === undefined) {
    return {
      ...check,
      state: 'Fail',
      message: 'It is not configured: nobody can request, approve or lock anything',
      fix: UPGRADE,
    };
  }
  if (!hook.clientConfig?.caBundle) {
    return {
      ...check,
      state: 'Fail',
      message: 'It has no caBundle, so the API server trusts no operator: nobody can request, approve or lock anything',
      fix: 'The operator writes it within seconds of its start: look at its log.',
    };
  }
  return hook.failurePolicy === 'Fail'
    ? { ...check, state: 'Ok', message: 'It is configured and has its caBundle' }
    : {
        ...check,
        state: 'Warn',
        message:
          'Its failurePolicy is not Fail: what it should have stamped is refused later, with a less clear sentence',
        fix: UPGRADE,
      };
}

/** What to give to `verify --root`. */
function trustOf(found: Seen<{ data?: Record<string, string> }>): Check {
  const check = { area: 'Install', subject: 'root keys of records' } as const;
  if (found.kind === 'Hidden')
    return { ...check, state: 'Unknown', message: 'You may not read ConfigMap sallyport-trust' };
  const roots = Object.entries((found.kind === 'Seen' ? found.value.data : undefined) ?? {});
  return roots.length === 0
    ? {
        ...check,
        state: 'Warn',
        message: 'They are not published in ConfigMap sallyport-trust',
        fix: 'The operator writes it when it begins to lead: look at its log.',
      }
    : { ...check, state: 'Ok', message: roots.map(([id, raw]) => `${id}: verify --root ${raw}`).join(', ') };
}

async function named(look: Looker, path: string): Promise<Seen<Set<string>>> {
  const found = await look.list<{ metadata: { name: string } }>(path);
  return found.kind === 'Seen'
    ? { kind: 'Seen', value: new Set(found.value.map(({ metadata }) => metadata.name)) }
    : found;
}

function admissionOf(policies: Seen<Set<string>>, bindings: Seen<Set<string>>): Check {
  const check = { area: 'Install', subject: 'admission policies' } as const;
  if (policies.kind !== 'Seen' || bindings.kind !== 'Seen') {
    return {
      ...check,
      state: 'Unknown',
      message: 'You may not read validatingadmissionpolicies and their bindings',
    };
  }
  const missing = ADMISSION_POLICIES.filter((name) => !policies.value.has(name) || !bindings.value.has(name));
  return missing.length === 0
    ? { ...check, state: 'Ok', message: `All ${ADMISSION_POLICIES.length} are there and bound` }
    : {
        ...check,
        state: 'Fail',
        message: `Missing or not bound, so what they forbid is possible: ${missing.join(', ')}`,
        fix: UPGRADE,
      };
}

async function checkOperator(look: Looker, release: string, nowMs: () => number): Promise<Check[]> {
  const [deployment, lease] = await Promise.all([
    look.get<{ spec?: { replicas?: number }; status?: { readyReplicas?: number } }>(
      `/apis/apps/v1/namespaces/${release}/deployments/sallyport`,
    ),
    look.get<{ spec?: { holderIdentity?: string; renewTime?: string } }>(
      `/apis/coordination.k8s.io/v1/namespaces/${release}/leases/sallyport`,
    ),
  ]);
  const log = `kubectl -n ${release} describe deployment sallyport; kubectl -n ${release} logs deployment/sallyport`;
  return [deploymentCheck(deployment, release, log), leaseCheck(lease, release, log, nowMs())];
}

function deploymentCheck(
  found: Seen<{ spec?: { replicas?: number }; status?: { readyReplicas?: number } }>,
  release: string,
  fix: string,
): Check {
  const check = { area: 'Install', subject: 'operator' } as const;
  if (found.kind === 'Hidden') {
    return { ...check, state: 'Unknown', message: `You may not read Deployments in namespace ${release}` };
  }
  if (found.kind === 'Absent') {
    return { ...check, state: 'Fail', message: `There is no Deployment ${release}/sallyport`, fix: UPGRADE };
  }
  const wanted = found.value.spec?.replicas ?? 1;
  const ready = found.value.status?.readyReplicas ?? 0;
  const message = `${ready} of ${wanted} replicas are ready`;
  if (ready === 0) return { ...check, state: 'Fail', message, fix };
  return ready < wanted ? { ...check, state: 'Warn', message, fix } : { ...check, state: 'Ok', message };
}

function leaseCheck(
  found: Seen<{ spec?: { holderIdentity?: string; renewTime?: string } }>,
  release: string,
  fix: string,
  nowMs: number,
): Check {
  const check = { area: 'Install', subject: 'leader' } as const;
  if (found.kind === 'Hidden') {
    return { ...check, state: 'Unknown', message: `You may not read Leases in namespace ${release}` };
  }
  const { holderIdentity, renewTime } = (found.kind === 'Seen' ? found.value.spec : undefined) ?? {};
  if (!holderIdentity || renewTime === undefined) {
    return { ...check, state: 'Fail', message: 'No operator leads: requests stay as they are', fix };
  }
  const ageMs = nowMs - Date.parse(renewTime);
  return ageMs > LEASE_LATE_MS
    ? {
        ...check,
        state: 'Fail',
        message: `${holderIdentity} has not renewed its Lease for ${Math.round(ageMs / 1000)} s; after 5 min without it proxies run no new command`,
        fix,
      }
    : { ...check, state: 'Ok', message: `${holderIdentity} leads` };
}

async function checkClock(look: Looker, nowMs: () => number): Promise<Check> {
  const check = { area: 'Install', subject: 'clock' } as const;
  const before = nowMs();
  const found = await look.review<{ metadata?: { creationTimestamp?: string | null } }>(
    '/apis/authentication.k8s.io/v1/selfsubjectreviews',
    { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' },
  );
  const after = nowMs();
  const told = found.kind === 'Seen' ? found.value.metadata?.creationTimestamp : undefined;
  if (!told) return { ...check, state: 'Unknown', message: 'The API server does not tell its time' };
  // It tells whole seconds.
  const theirs = Date.parse(told);
  const skewMs = theirs > after ? theirs - after : theirs + 1000 < before ? theirs + 1000 - before : 0;
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  if (Math.abs(skewMs) < SKEW_WARN_MS) return { ...check, state: 'Ok', message: 'It agrees with the cluster’s' };
  return {
    ...check,
    state: Math.abs(skewMs) >= SKEW_FAIL_MS ? 'Fail' : 'Warn',
    message: `This machine is ${seconds} s ${skewMs > 0 ? 'behind' : 'ahead of'} the cluster: tickets may be refused as not yet or no longer good`,
    fix: 'Set the clock by NTP.',
  };
}

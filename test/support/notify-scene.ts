// A directory of YAML with notifiers of every type over small servers of their products, and people who ask and decide.
import { randomBytes } from 'node:crypto';
import type { TestCertificates } from './certificates.ts';
import { testCertificates } from './certificates.ts';
import { type HttpsDouble, startHttpsDouble } from './https-double.ts';
import { type JiraDouble, startJira } from './jira.ts';
import { type ServiceNowDouble, startServiceNow } from './servicenow.ts';
import { type SlackDouble, startSlack } from './slack.ts';

export interface Receiver extends HttpsDouble {
  /** `whsec_…`. */
  secret: string;
}

export interface NotifyServers {
  certificates: TestCertificates;
  slack: SlackDouble;
  jira: JiraDouble;
  serviceNow: ServiceNowDouble;
  /** Takes webhooks signed with a shared secret. */
  shared: Receiver;
  /** Takes webhooks signed with the notifier's own key. */
  open: HttpsDouble;
  stop(): Promise<void>;
}

export async function startNotifyServers(): Promise<NotifyServers> {
  const certificates = await testCertificates();
  const [slack, jira, serviceNow, shared, open] = await Promise.all([
    startSlack(certificates),
    startJira(certificates),
    startServiceNow(certificates),
    startHttpsDouble(certificates, () => ({ status: 204 })),
    startHttpsDouble(certificates, () => ({ status: 200, body: 'thanks' })),
  ]);
  return {
    certificates,
    slack,
    jira,
    serviceNow,
    shared: { ...shared, secret: `whsec_${randomBytes(32).toString('base64')}` },
    open,
    async stop() {
      await Promise.all([slack, jira, serviceNow, shared, open].map((each) => each.stop()));
    },
  };
}

const indent = (text: string, by: number): string => text.trimEnd().replaceAll('\n', `\n${' '.repeat(by)}`);

const secret = (name: string, namespace: string, values: Record<string, string>): string =>
  `apiVersion: v1
kind: Secret
metadata: {name: ${name}, namespace: ${namespace}}
stringData:
${Object.entries(values)
  .map(([key, value]) => `  ${key}: ${JSON.stringify(value)}\n`)
  .join('')}`;

const notifier = (name: string, type: string, member: string, ca: string, more = ''): string =>
  `apiVersion: sallyport.dev/v1alpha1
kind: ClusterNotifier
metadata: {name: ${name}}
spec:
  type: ${type}
  ${indent(member, 2)}
  caBundle: |
    ${indent(ca, 4)}
  ${more}
`;

/** `target`: a PostgreSQL that lets `reader` in by the password `SECRETDB`; default: nobody is there. */
export function notifyFiles(
  servers: NotifyServers,
  target: { port: number; ca?: string } = { port: 9 },
): Record<string, string> {
  const { slack, jira, serviceNow, shared, open, certificates } = servers;
  const { ca } = certificates;
  const home = 'sallyport-system';
  return {
    'notifiers.yaml': [
      notifier(
        'chat',
        'Slack',
        `slack: {tokenSecretRef: {name: slack}, channel: ${slack.channel}, apiUrl: '${slack.url}/api'}`,
        ca,
        'portalUrl: https://access.corp.example/',
      ),
      notifier('events', 'Webhook', `webhook: {url: '${shared.url}/in', secretRef: {name: hook}}`, ca),
      notifier(
        'jira',
        'Jira',
        `jira:
  url: ${jira.url}
  secretRef: {name: jira}
  accounts:
    - {username: alice@corp.example, account: acc-alice}
    - {username: bert@corp.example, account: acc-bert}`,
        ca,
      ),
      notifier(
        'snow',
        'ServiceNow',
        `serviceNow:
  url: ${serviceNow.url}
  secretRef: {name: snow}
  accounts:
    - {username: alice@corp.example, account: '11111111111111111111111111111111'}`,
        ca,
      ),
      `apiVersion: sallyport.dev/v1alpha1
kind: Notifier
metadata: {name: team, namespace: payments}
spec:
  type: Webhook
  webhook:
    url: ${open.url}/team
    template: '{"what": "$(event)", "why": "$(facts.reason)", "nested": {"text": "$(title)"}}'
  caBundle: |
    ${indent(ca, 4)}
`,
    ].join('---\n'),
    'secrets.yaml': [
      secret('slack', home, { token: slack.token, 'sallyport-hosts': 'localhost' }),
      secret('hook', home, { secret: shared.secret, 'sallyport-hosts': 'localhost' }),
      secret('jira', home, { username: jira.username, token: jira.token, 'sallyport-hosts': jira.host }),
      secret('snow', home, {
        username: serviceNow.username,
        password: serviceNow.password,
        'sallyport-hosts': 'localhost',
      }),
    ].join('---\n'),
    'access.yaml': [
      `apiVersion: sallyport.dev/v1alpha1
kind: Connection
metadata: {name: orders-db, namespace: payments}
spec:
  type: PostgreSQL
  postgresql:
    host: localhost
    port: ${target.port}
${target.ca === undefined ? '' : `    tls:\n      ca: |\n        ${indent(target.ca, 8)}\n`}  accounts: [{name: reader, secretRef: {name: reader}}]
`,
      secret('reader', 'payments', { username: 'reader', password: 'SECRETDB', 'sallyport-hosts': 'localhost' }),
      policy('plain', 'plain', ''),
      policy(
        'jira',
        'tickets',
        "ticket: {notifier: {name: jira}, pattern: '^OPS-[0-9]{1,6}$', states: ['10002'], assigneeIsRequester: true}",
      ),
      policy(
        'snow',
        'changes',
        "ticket: {notifier: {name: snow}, pattern: '^CHG[0-9]{7}$', states: ['-1'], autoApprove: true}",
        "[{kind: User, name: 'ticket:snow'}]",
      ),
    ].join('---\n'),
  };
}

/** Its own Connection-wide policy; `policyRef` chooses it. */
function policy(name: string, group: string, more: string, approvers = '[{kind: Group, name: dba}]'): string {
  return `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ${name}, namespace: payments}
spec:
  connectionSelector: {}
  subjects: [{kind: Group, name: ${group}}]
  accounts: [reader]
  maxDuration: 4h
  approval: {timeout: 30m, steps: [{name: lead, approvers: ${approvers}}]}
  breakGlass: {subjects: [{kind: Group, name: oncall}], reviewers: [{kind: Group, name: dba}]}
  ${more}
  rules: [{name: all, action: Allow}]
`;
}

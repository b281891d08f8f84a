// A notifier as it is configured, made into something that messages can be handed to; or the sentence why it can not be.
// Where a Secret may come from is decided here: a ClusterNotifier's lies in the operator's namespace; a Notifier's lies in
// its own, which the operator of a cluster does not read (INV-05, INV-12), so there its medium is a webhook without one.
import type { KeyObject } from 'node:crypto';
import type { AnyNotifier } from '../../api/notifier.ts';
import type { Clock } from '../../system/clock.ts';
import { createHttps, type GuardedDial, type Https } from './https.ts';
import type { Medium } from './media/medium.ts';
import { slackMedium } from './media/slack.ts';
import { readTemplate, webhookKey, webhookMedium } from './media/webhook.ts';
import type { ReadSecret, SecretData } from './secrets.ts';
import { jiraSystem } from './tickets/jira.ts';
import { serviceNowSystem } from './tickets/servicenow.ts';
import type { TicketSystem } from './tickets/system.ts';

/** What the process that composes the controllers lends to notifiers. */
export interface NotifierServices {
  /** Where ClusterNotifiers' Secrets are. */
  clusterNamespace: string;
  /** Undefined: Secrets of that scope are not read here. */
  readSecret(scope: 'Notifier' | 'ClusterNotifier'): ReadSecret | undefined;
  dial(scope: { kind: 'Notifier'; namespace: string } | { kind: 'ClusterNotifier' }): GuardedDial;
  /** The operator's Ed25519 key; notifiers' own are derived from it. */
  key: KeyObject;
  /** Counts what became of messages, by type of notifier. */
  count?(type: string, outcome: 'Delivered' | 'Retried' | 'Dropped'): void;
}

export type Channel =
  | { kind: 'Good'; medium: Medium; publicKey?: string; tickets?: TicketSystem }
  | { kind: 'Unusable'; message: string };

export function channelOf(notifier: AnyNotifier, services: NotifierServices, clock: Clock): Channel {
  const { spec } = notifier;
  const scope = notifier.kind;
  const home = notifier.metadata.namespace ?? 'default';
  const namespace = scope === 'ClusterNotifier' ? services.clusterNamespace : home;
  const secretName = secretNameOf(notifier);
  const read = services.readSecret(scope);
  if (secretName !== undefined && read === undefined)
    return {
      kind: 'Unusable',
      message:
        'In a cluster a Notifier has no Secret: the operator reads none of a namespace. Use type Webhook without secretRef, which is verified with status.publicKey, or have an administrator make a ClusterNotifier.',
    };
  const readSecret = (): Promise<SecretData> =>
    read === undefined || secretName === undefined
      ? Promise.reject(new Error('it names no Secret'))
      : read(namespace, secretName);
  const https: Https = createHttps(
    services.dial(scope === 'Notifier' ? { kind: scope, namespace: home } : { kind: scope }),
  );
  const common = {
    caBundle: spec.caBundle,
    secretName: `${namespace}/${secretName ?? ''}`,
    readSecret,
    https,
    now: () => clock.now(),
  };
  switch (spec.type) {
    case 'Slack':
      return spec.slack === undefined
        ? missing('slack')
        : { kind: 'Good', medium: slackMedium({ ...common, spec: spec.slack }) };
    case 'Webhook': {
      if (spec.webhook === undefined) return missing('webhook');
      const template = readTemplate(spec.webhook.template);
      if (template.kind === 'Bad') return { kind: 'Unusable', message: `${template.reason}.` };
      const own = webhookKey(services.key, notifier.metadata.uid);
      return {
        kind: 'Good',
        medium: webhookMedium({ ...common, spec: spec.webhook, fill: template.fill, ownKey: own.privateKey }),
        ...(spec.webhook.secretRef === undefined ? { publicKey: own.publicKey } : {}),
      };
    }
    case 'Jira': {
      if (spec.jira === undefined) return missing('jira');
      const tickets = jiraSystem({ ...common, spec: spec.jira });
      return { kind: 'Good', medium: tickets, tickets };
    }
    case 'ServiceNow': {
      if (spec.serviceNow === undefined) return missing('serviceNow');
      const tickets = serviceNowSystem({ ...common, spec: spec.serviceNow });
      return { kind: 'Good', medium: tickets, tickets };
    }
    default:
      return { kind: 'Unusable', message: 'Its type is not known to this version.' };
  }
}

const missing = (member: string): Channel => ({ kind: 'Unusable', message: `The member spec.${member} is missing.` });

function secretNameOf({ spec }: AnyNotifier): string | undefined {
  switch (spec.type) {
    case 'Slack':
      return (spec.slack?.tokenSecretRef ?? spec.slack?.webhookSecretRef)?.name;
    case 'Webhook':
      return spec.webhook?.secretRef?.name;
    case 'Jira':
      return spec.jira?.secretRef.name;
    case 'ServiceNow':
      return spec.serviceNow?.secretRef.name;
    default:
      return undefined;
  }
}

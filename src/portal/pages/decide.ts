// The page of one request, grant or held command: everything a decision is about, what each decision will do, and the
// form that makes it. What is posted names exactly what was shown: uid and hash of the spec.
import { specHash } from '../../api/canonical.ts';
import type { BrowserSession } from '../browser-sessions.ts';
import type { Decision, GrantConcern, History, HoldConcern } from '../concerns.ts';
import { html, type Insert, type Markup } from '../html.ts';
import {
  countdown,
  DECISION_WORDS,
  grantConsequence,
  historyText,
  holdConsequence,
  moment,
  personOf,
  whatOf,
} from '../words.ts';
import { badge, csrfField, facts, phaseBadge } from './layout.ts';

interface Target {
  kind: 'AccessGrant' | 'CommandHold';
  metadata: { name: string; namespace?: string; uid: string };
  spec: object;
}

export const grantPath = (grant: Target): string => `/grants/${grant.metadata.namespace}/${grant.metadata.name}`;
export const holdPath = (hold: Target): string => `/holds/${hold.metadata.namespace}/${hold.metadata.name}`;

export function decisionForm(
  session: BrowserSession,
  target: Target,
  actions: readonly Decision[],
  consequence: (decision: Decision) => string,
): Insert {
  if (actions.length === 0) return undefined;
  return html`<form class="decide" method="post" action="/decide">
${csrfField(session)}
<input type="hidden" name="kind" value="${target.kind}">
<input type="hidden" name="namespace" value="${target.metadata.namespace ?? ''}">
<input type="hidden" name="name" value="${target.metadata.name}">
<input type="hidden" name="uid" value="${target.metadata.uid}">
<input type="hidden" name="specHash" value="${specHash(target.spec)}">
<label for="reason">Reason <span class="optional">(optional; told to whom it concerns)</span></label>
<textarea id="reason" name="reason" rows="2" maxlength="1024"></textarea>
<ul class="choices">
${actions.map((decision) => html`<li><button name="decision" value="${decision}" class="${toneOf(decision)}" aria-describedby="will-${decision}">${DECISION_WORDS[decision]}</button><p id="will-${decision}">${consequence(decision)}</p></li>`)}
</ul>
<p class="aside">Your identity provider confirms that it is you; it may ask you to log in.</p>
</form>`;
}

const toneOf = (decision: Decision): string =>
  decision === 'Approve' || decision === 'SignOff' || decision === 'Keep' ? 'primary' : 'danger';

export function grantPage(
  session: BrowserSession,
  concern: GrantConcern,
  more: { history: History | undefined; voted: boolean; prefix: string; nowMs: number },
): Markup {
  const { grant, policy, steps } = concern;
  const { spec, status } = grant;
  const scheduled = status?.phase === 'Pending' && status.expiresAt !== undefined;
  const approvals = status?.approvals ?? [];
  return html`<article class="sheet" data-key="${grant.metadata.uid}" data-rev="${grant.metadata.resourceVersion}">
<p class="crumb"><a href="${concern.role === 'Own' ? '/' : '/pending'}">${concern.role === 'Own' ? 'My access' : 'To decide'}</a></p>
<h1>${whatOf(grant)} ${phaseBadge(status?.phase, scheduled)} ${spec.breakGlass === true && badge('Break-glass', 'bad')}</h1>
${status?.message !== undefined && html`<p class="lead">${status.message}</p>`}
${facts([
  ['Who', personOf(grant)],
  ['For', spec.beneficiary?.name],
  ['Why', spec.reason !== undefined && html`<q>${spec.reason}</q>`],
  ['Ticket', spec.ticket],
  [
    'What',
    html`Connection <b>${spec.connectionRef.name}</b> in ${grant.metadata.namespace}${(status?.account ?? spec.account) !== undefined && html`, account <b>${status?.account ?? spec.account}</b>`}`,
  ],
  ['How long', spec.duration ?? 'as the policy gives'],
  ['From', spec.notBefore !== undefined && moment(spec.notBefore)],
  ['Until', status?.expiresAt !== undefined && moment(status.expiresAt)],
  ['Policy', policy?.metadata.name ?? status?.policy?.name],
  ['Decide by', status?.phase === 'Pending' && status.deadline !== undefined && !scheduled && moment(status.deadline)],
  ['Before', concern.role === 'Approver' && more.history !== undefined && historyText(more.history, more.nowMs)],
  ['Asked', moment(grant.metadata.creationTimestamp)],
  ['Request', html`<code>${grant.metadata.name}</code>`],
])}
${
  (spec.commands ?? []).length > 0 &&
  html`<h2>Statements that are approved with it</h2><p>These and no others run without waiting, where a rule holds them.</p>${(spec.commands ?? []).map((text) => statement(text, 0))}`
}
${
  steps.length > 0 &&
  spec.breakGlass !== true &&
  html`<h2>Approvals</h2><ol class="steps">${steps.map(
    (step) =>
      html`<li class="${step.state.toLowerCase()}"><b>${step.name}</b> ${step.have} of ${step.count}${step.state === 'Open' && status?.phase === 'Pending' && ' · now'}${step.mine && concern.role === 'Approver' && ' · yours'}${approvals
        .filter((each) => each.step === step.name)
        .map(
          (each) =>
            html`<br><span class="vote">${each.approver}, ${moment(each.at)}${each.reason !== undefined && html`: <q>${each.reason}</q>`}</span>`,
        )}</li>`,
  )}</ol>`
}
${status?.phase === 'Active' && concern.role === 'Own' && html`<h2>Connect</h2>${command(status.connectCommand ?? `${more.prefix} connect ${spec.connectionRef.name}`)}`}
${more.voted && concern.role === 'Approver' && html`<p class="note plain">You have decided about this before.</p>`}
${concern.actions.length > 0 && html`<h2>${concern.role === 'Own' ? 'Give it up' : 'Your decision'}</h2>`}
${decisionForm(session, grant, concern.actions, (decision) => grantConsequence(decision, concern))}
${concern.role === 'Approver' && concern.actions.length === 0 && status?.phase === 'Pending' && html`<p class="note plain">There is nothing for you to decide at this step.</p>`}
</article>`;
}

export function holdPage(session: BrowserSession, concern: HoldConcern, nowMs: number): Markup {
  const { hold, role } = concern;
  const { spec, status } = hold;
  const waiting = (status?.phase ?? 'Waiting') === 'Waiting';
  return html`<article class="sheet" data-key="${hold.metadata.uid}" data-rev="${hold.metadata.resourceVersion}">
<p class="crumb"><a href="${role === 'Own' ? '/' : '/pending'}">${role === 'Own' ? 'My access' : 'To decide'}</a></p>
<h1>Held statement ${phaseBadge(status?.phase ?? 'Waiting')}</h1>
<p class="lead">${spec.reason}</p>
${statement(spec.command, spec.hiddenLiterals)}
${facts([
  ['Who', spec.requester.username],
  ['Where', html`<b>${spec.connectionRef.name}</b> in ${hold.metadata.namespace}`],
  ['It does', spec.summary],
  ['Held by', spec.rules.map((each) => `${each.policy}, rule ${each.rule}`).join('; ')],
  ['Needs', spec.requirements.map((each) => `${each.count} (${each.rule})`).join(', ')],
  ['Time left', waiting && countdown(spec.until, nowMs)],
  ['Consented', status?.decidedBy?.join(', ')],
  ['Reason', status?.reason !== undefined && html`<q>${status.reason}</q>`],
  ['Came', moment(spec.requestedAt)],
  ['Hold', html`<code>${hold.metadata.name}</code>`],
])}
${concern.actions.length > 0 && html`<h2>${role === 'Own' ? 'Take it back' : 'Your decision'}</h2>`}
${decisionForm(session, hold, concern.actions, (decision) => holdConsequence(decision, hold))}
</article>`;
}

export function statement(text: string, hidden: number): Markup {
  return html`<figure class="statement"><pre tabindex="0" aria-label="The statement">${text}</pre>${hidden > 0 && html`<figcaption>${hidden} ${hidden === 1 ? 'value is' : 'values are'} hidden.</figcaption>`}</figure>`;
}

export function command(text: string): Markup {
  return html`<p class="command"><code>${text}</code><button type="button" class="quiet" data-copy="${text}" hidden>Copy</button></p>`;
}

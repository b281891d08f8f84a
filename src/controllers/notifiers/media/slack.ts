// Slack: chat.postMessage with a bot token, or an incoming webhook. Sources: api.slack.com/methods/chat.postMessage,
// /methods/conversations.history, /messaging/webhooks, /apis/rate-limits. Guarantees: texts of people are plain_text
// elements or escaped (& < >), so they can mention nobody and draw no link; the only button opens a link. After an attempt
// whose end is not known the channel is looked through for the message's id first; a token without channels:history can
// not look, and then a message may appear twice rather than not at all.
import type { NotifierSpec } from '../../../api/notifier.ts';
import { type Https, itemsOf, jsonOf, membersOf, retryAfterMs, textIn } from '../https.ts';
import { type Message, textOf } from '../message.ts';
import type { SecretData } from '../secrets.ts';
import { type Delivery, failureOf, headerSecret, hostsOf, type Medium, SecretUnfit } from './medium.ts';

const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** Bounds of Block Kit. */
const LONGEST_TITLE = 150;
const LONGEST_SECTION = 2900;

export function slackBody(message: Message): Record<string, unknown> {
  const plainText = (text: string, longest: number): unknown => ({
    type: 'plain_text',
    emoji: false,
    text: text.length > longest ? `${text.slice(0, longest - 1)}…` : text,
  });
  const details = message.lines.map(([label, text]) => `${label}: ${text}`).join('\n');
  return {
    text: escape(textOf(message)).slice(0, LONGEST_SECTION),
    mrkdwn: false,
    parse: 'none',
    link_names: false,
    unfurl_links: false,
    unfurl_media: false,
    blocks: [
      { type: 'header', text: plainText(message.title, LONGEST_TITLE) },
      ...(details === '' ? [] : [{ type: 'section', text: plainText(details, LONGEST_SECTION) }]),
      ...(message.link !== undefined
        ? [
            {
              type: 'actions',
              elements: [{ type: 'button', text: plainText('Open', 10), url: message.link, action_id: 'open' }],
            },
          ]
        : message.command === undefined
          ? []
          : [{ type: 'section', text: plainText(message.command, LONGEST_SECTION) }]),
    ],
  };
}

const FIXES: Readonly<Record<string, string>> = {
  invalid_auth: 'put a good bot token into its Secret',
  not_authed: 'put a good bot token into its Secret',
  account_inactive: 'the bot was removed; install it again and put its new token into the Secret',
  token_revoked: 'put a new bot token into its Secret',
  token_expired: 'put a new bot token into its Secret',
  missing_scope: 'give the bot the scope chat:write',
  channel_not_found: 'write the id of a channel that the bot can see into spec.slack.channel',
  not_in_channel: 'invite the bot to the channel',
  is_archived: 'write the id of another channel into spec.slack.channel',
  no_service: 'make a new incoming webhook and put its address into the Secret',
  no_active_hooks: 'make a new incoming webhook and put its address into the Secret',
};
/** What is wrong with one message rather than with all of them. */
const ABOUT_THE_MESSAGE = ['invalid_blocks', 'invalid_payload', 'msg_too_long', 'no_text', 'invalid_arguments'];

export function slackMedium(options: {
  spec: NonNullable<NotifierSpec['slack']>;
  caBundle: string | undefined;
  secretName: string;
  readSecret(): Promise<SecretData>;
  https: Https;
  now(): number;
}): Medium {
  const { spec, caBundle, secretName, https, now } = options;

  const call = async (
    method: string,
    secret: SecretData,
    payload: { body: string } | { query: URLSearchParams },
    signal: AbortSignal,
  ) => {
    const base = new URL(`${(spec.apiUrl ?? 'https://slack.com/api').replace(/\/+$/, '')}/${method}`);
    if ('query' in payload) base.search = payload.query.toString();
    return https(
      {
        method: 'body' in payload ? 'POST' : 'GET',
        url: base,
        headers: {
          authorization: `Bearer ${headerSecret(secret, 'token', secretName)}`,
          ...('body' in payload ? { 'content-type': 'application/json; charset=utf-8' } : {}),
        },
        ...('body' in payload ? { body: payload.body } : {}),
        hosts: hostsOf(secret, base, secretName),
        caBundle,
      },
      signal,
    );
  };

  /** Whether the channel holds a message with this id; undefined: can not be told. */
  const isThere = async (message: Message, secret: SecretData, signal: AbortSignal): Promise<boolean | undefined> => {
    let cursor = '';
    for (let page = 0; page < 5; page += 1) {
      const query = new URLSearchParams({
        channel: spec.channel ?? '',
        include_all_metadata: 'true',
        limit: '200',
        oldest: String(Math.floor(Date.parse(message.at) / 1000) - 60),
        ...(cursor === '' ? {} : { cursor }),
      });
      const answer = await call('conversations.history', secret, { query }, signal);
      if (answer.kind !== 'Answer' || answer.status !== 200) return undefined;
      const body = membersOf(jsonOf(answer));
      if (body['ok'] !== true) return undefined;
      const found = itemsOf(body['messages']).some((each) => {
        const payload = membersOf(membersOf(membersOf(each)['metadata'])['event_payload']);
        return payload['id'] === message.id;
      });
      if (found) return true;
      cursor = textIn(membersOf(body['response_metadata'])['next_cursor']) ?? '';
      if (cursor === '') return false;
    }
    return undefined;
  };

  const told = (code: string, host: string, after: number | undefined): Delivery => {
    const fix = FIXES[code];
    const reason = `${host} says ${/^[a-z_]{1,40}$/.test(code) ? code : 'no'}${fix === undefined ? '' : `: ${fix}`}`;
    if (ABOUT_THE_MESSAGE.includes(code)) return { kind: 'Refused', reason };
    return { kind: 'Unavailable', reason, sent: false, ...(after === undefined ? {} : { retryAfterMs: after }) };
  };

  const byToken: Medium['deliver'] = async (message, maybeSent, signal) => {
    const secret = await options.readSecret();
    if (maybeSent && (await isThere(message, secret, signal)) === true) return { kind: 'Taken' };
    const body = JSON.stringify({
      channel: spec.channel,
      ...slackBody(message),
      metadata: { event_type: 'sallyport_notice', event_payload: { id: message.id } },
    });
    const answer = await call('chat.postMessage', secret, { body }, signal);
    const host = new URL(spec.apiUrl ?? 'https://slack.com/api').host;
    if (answer.kind === 'NoAnswer' || answer.status !== 200) return failureOf(answer, host, now());
    const result = membersOf(jsonOf(answer));
    if (result['ok'] === true) return { kind: 'Taken' };
    return told(String(result['error'] ?? ''), host, retryAfterMs(answer.headers, now()));
  };

  const byWebhook: Medium['deliver'] = async (message, _maybeSent, signal) => {
    const secret = await options.readSecret();
    let url: URL;
    try {
      url = new URL((secret['url'] ?? '').trim());
    } catch {
      throw new SecretUnfit(`Key "url" of Secret ${secretName} is no address of an incoming webhook.`);
    }
    const answer = await https(
      {
        method: 'POST',
        url,
        headers: { 'content-type': 'application/json; charset=utf-8' },
        body: JSON.stringify(slackBody(message)),
        hosts: hostsOf(secret, url, secretName),
        caBundle,
      },
      signal,
    );
    if (answer.kind === 'Answer' && answer.status === 200) return { kind: 'Taken' };
    // Errors are one word of text: `no_service`, `invalid_payload`.
    if (answer.kind === 'Answer' && answer.status >= 400 && answer.status < 500 && answer.status !== 429)
      return told(answer.body.trim().slice(0, 40), url.host, undefined);
    return failureOf(answer, url.host, now());
  };

  return { deliver: spec.tokenSecretRef === undefined ? byWebhook : byToken };
}

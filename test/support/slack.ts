// Slack's Web API and incoming webhooks, as far as notices need them (api.slack.com/methods/chat.postMessage,
// conversations.history; /messaging/webhooks): bearer tokens, `ok: false` with 200, metadata, cursors, 429.
import type { TestCertificates } from './certificates.ts';
import { type HttpsDouble, startHttpsDouble } from './https-double.ts';

export interface SlackMessage {
  ts: string;
  channel: string;
  text: string;
  blocks: unknown[];
  metadata?: { event_type: string; event_payload: Record<string, unknown> };
}

export interface SlackDouble extends HttpsDouble {
  token: string;
  channel: string;
  /** Path of the incoming webhook, whose address is a secret. */
  webhookUrl: string;
  messages: SlackMessage[];
  /** Scopes of the token. */
  scopes: Set<string>;
}

const PAGE = 2;

export async function startSlack(certificates: TestCertificates): Promise<SlackDouble> {
  const token = 'xoxb-1234567890-abcdefSECRETSLACK';
  const channel = 'C0123456789';
  const messages: SlackMessage[] = [];
  const scopes = new Set(['chat:write', 'channels:history']);
  let clock = 0;
  const post = (body: Record<string, unknown>, where: string): void => {
    clock += 1;
    messages.push({
      ts: `${Math.floor(Date.now() / 1000)}.${String(clock).padStart(6, '0')}`,
      channel: where,
      text: String(body['text'] ?? ''),
      blocks: Array.isArray(body['blocks']) ? (body['blocks'] as unknown[]) : [],
      ...(body['metadata'] === undefined
        ? {}
        : { metadata: body['metadata'] as NonNullable<SlackMessage['metadata']> }),
    });
  };
  const hook = '/services/T000/B000/SECRETHOOK';
  const double = await startHttpsDouble(certificates, (call) => {
    if (call.path === hook) {
      if (call.method !== 'POST') return { status: 405, body: 'method_not_allowed' };
      try {
        post(JSON.parse(call.body) as Record<string, unknown>, channel);
      } catch {
        return { status: 400, body: 'invalid_payload' };
      }
      return { status: 200, body: 'ok' };
    }
    if (call.path.startsWith('/services/')) return { status: 404, body: 'no_service' };
    const said = (error: string) => ({ status: 200, body: { ok: false, error } });
    if (call.headers['authorization'] === undefined) return said('not_authed');
    if (call.headers['authorization'] !== `Bearer ${token}`) return said('invalid_auth');
    switch (`${call.method} ${call.path}`) {
      case 'POST /api/chat.postMessage': {
        if (!scopes.has('chat:write')) return said('missing_scope');
        const body = JSON.parse(call.body) as Record<string, unknown>;
        if (body['channel'] !== channel) return said('channel_not_found');
        if (String(body['text'] ?? '') === '') return said('no_text');
        post(body, channel);
        return { status: 200, body: { ok: true, channel, ts: messages.at(-1)!.ts } };
      }
      case 'GET /api/conversations.history': {
        if (!scopes.has('channels:history')) return said('missing_scope');
        if (call.query.get('channel') !== channel) return said('channel_not_found');
        const oldest = Number(call.query.get('oldest') ?? 0);
        const all = messages.filter(({ ts }) => Number(ts) > oldest).reverse();
        const from = Number(call.query.get('cursor') ?? 0);
        const page = all.slice(from, from + PAGE).map(({ metadata, ...rest }) => ({
          type: 'message',
          ...rest,
          ...(call.query.get('include_all_metadata') === 'true' && metadata !== undefined ? { metadata } : {}),
        }));
        const more = from + PAGE < all.length;
        return {
          status: 200,
          body: {
            ok: true,
            messages: page,
            has_more: more,
            response_metadata: { next_cursor: more ? String(from + PAGE) : '' },
          },
        };
      }
      default:
        return said('unknown_method');
    }
  });
  return { ...double, token, channel, webhookUrl: `${double.url}${hook}`, messages, scopes };
}

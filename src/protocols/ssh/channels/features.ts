// Agent and X11 forwarding that a client asks for on a session channel. Each is judged by its name, given to the target
// before the command starts, and lets the target open channels of its kind as long as that session runs.
//
// Guarantees: the cookie of X11 goes to the target and nowhere else; a single X11 connection is one; what was not let
// through, or is over, opens nothing.
import { commandOfFeature } from '../commands.ts';
import type { SshCommand } from '../facts.ts';
import type { Field } from '../wire/data.ts';
import { readData } from '../wire/data.ts';
import type { SessionChannel } from './channel.ts';
import { recordOutcome } from './forward-sum.ts';
import { judge, recordDenial } from './judge.ts';
import { channelRequest } from './messages.ts';
import type { Reply } from './replies.ts';

export type FeatureName = 'AgentForwarding' | 'X11Forwarding';

export interface Feature {
  readonly name: FeatureName;
  readonly command: SshCommand;
  /** Of its command; undefined: it is still judged. */
  id: number | undefined;
  /** Its result is still to be written. */
  due: boolean;
  state: 'Judging' | 'Allowed' | 'Live' | 'Over';
  /** One connection and no more. */
  readonly single: boolean;
  readonly fields: readonly Field[];
  readonly judged: Promise<void>;
}

const REQUESTS = { AgentForwarding: 'auth-agent-req@openssh.com', X11Forwarding: 'x11-req' } as const;
const TITLES = { AgentForwarding: 'agent forwarding', X11Forwarding: 'X11 forwarding' } as const;

export class Features {
  readonly #channel: SessionChannel;
  readonly #features = new Map<FeatureName, Feature>();

  constructor(channel: SessionChannel) {
    this.#channel = channel;
  }

  /** Once each, and before anything runs. */
  request(name: FeatureName, rest: Buffer, reply: Reply | undefined): void {
    const channel = this.#channel;
    const { core } = channel;
    const asked = name === 'X11Forwarding' ? parseX11(rest) : { single: false, fields: [], extras: {} };
    if (channel.phase !== 'Fresh' || this.#features.has(name) || asked === undefined) return reply?.settle(false);
    const command = commandOfFeature({ user: core.user, feature: name });
    const { extras } = asked;
    const hasRight = name === 'X11Forwarding' ? core.rights.x11Forwarding : core.rights.agentForwarding;
    if (!hasRight) {
      recordDenial({ core, channel: channel.number, command, extras }, core.nextCommandId(), {
        code: 'Unsupported',
        message: `Sallyport refused ${command.verb}: the certificate that the client logged in with does not permit it`,
      });
      return reply?.settle(false);
    }
    const judging = judge({
      core,
      channel: channel.number,
      command,
      extras,
      tell: (text) => channel.tell(text),
    });
    channel.awaits(judging);
    const feature: Feature = {
      name,
      command,
      id: undefined,
      due: false,
      state: 'Judging',
      single: asked.single,
      fields: asked.fields,
      judged: judging.outcome.then((judged) => {
        if (judged.kind === 'Run') {
          feature.id = judged.id;
          feature.due = !core.ending;
        }
        // A channel that ended meanwhile has taken its features with it.
        if (judged.kind === 'Run' && feature.state === 'Judging') feature.state = 'Allowed';
        else this.#over(feature, { code: 'Withdrawn', message: 'the client closed the channel' });
        reply?.settle(feature.state === 'Allowed');
      }),
    };
    this.#features.set(name, feature);
  }

  /** When all that was asked for is judged. */
  async judged(): Promise<void> {
    for (const feature of this.#features.values()) await feature.judged;
  }

  /** What the target is still to be asked for. */
  get allowed(): readonly Feature[] {
    return [...this.#features.values()].filter(({ state }) => state === 'Allowed');
  }

  /** To the target, which is to answer. */
  requestOf({ name, fields }: Feature): Buffer {
    return channelRequest(0, REQUESTS[name], true, ...fields);
  }

  answered(feature: Feature, success: boolean): void {
    if (feature.state !== 'Allowed') return;
    if (success) {
      feature.state = 'Live';
      return this.#outcome(feature);
    }
    this.#over(feature, { code: 'TargetRefused', message: `the target gives no ${TITLES[feature.name]}` });
    this.#channel.tell(`Sallyport: the target gives no ${TITLES[feature.name]}.`);
  }

  /** The feature under which the target may open a channel now. A single connection is used up by asking. */
  take(name: FeatureName): Feature | undefined {
    const feature = this.#features.get(name);
    if (feature?.state !== 'Live' || !this.#channel.isAtTarget || this.#channel.isOver) return undefined;
    if (feature.single) feature.state = 'Over';
    return feature;
  }

  ended(): void {
    for (const feature of this.#features.values())
      this.#over(feature, { code: 'Withdrawn', message: 'the channel ended before anything ran' });
  }

  #over(feature: Feature, error: { code: string; message: string }): void {
    feature.state = 'Over';
    this.#outcome(feature, error);
  }

  #outcome(feature: Feature, error?: { code: string; message: string }): void {
    if (!feature.due || feature.id === undefined) return;
    feature.due = false;
    recordOutcome(this.#channel.core, this.#channel.number, feature.id, {}, error);
  }
}

/** undefined: no X11 client asks so, and the target hands these words to xauth. */
function parseX11(
  rest: Buffer,
): { single: boolean; fields: Field[]; extras: Readonly<Record<string, unknown>> } | undefined {
  const reader = readData(rest);
  const single = reader.boolean();
  const protocol = reader.string();
  const cookie = reader.string();
  const screen = reader.uint32();
  reader.end();
  const isName = /^[A-Za-z0-9.-]{1,64}$/.test(protocol.toString('latin1'));
  if (!isName || !/^[0-9A-Fa-f]{0,1024}$/.test(cookie.toString('latin1'))) return undefined;
  return {
    single,
    fields: [{ boolean: single }, { string: protocol }, { string: Buffer.from(cookie) }, { uint32: screen }],
    extras: { singleConnection: single, screen, cookie: '***' },
  };
}

// Prometheus metrics of one process, in a registry of their own. Labels are bounded: Connections that are served,
// codes that the source names; never users, statements or addresses.
import { Counter, Gauge, Histogram, Registry } from '@prometheus-io/client';
import type { GatewayMetrics } from '../gateway/observer.ts';
import type { Clock } from '../system/clock.ts';

export interface Metrics extends GatewayMetrics {
  /** From queueing a record to its being written, milliseconds. */
  recordLag(milliseconds: number): void;
  /** Whether records can be written now. */
  recordsWritable(writable: boolean): void;
  /** Emergencies whose review is due now. */
  signOffsDue(count: number): void;
  /** What became of a notifier’s message; `type` is the notifier’s. */
  notice(type: string, outcome: 'Delivered' | 'Retried' | 'Dropped'): void;
  /** The text exposition and its content type. */
  render(): Promise<{ contentType: string; body: string }>;
}

const LATENCY_BUCKETS = [20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 20e-3, 100e-3, 1];
const LAG_BUCKETS = [100e-6, 500e-6, 1e-3, 5e-3, 20e-3, 100e-3, 500e-3, 2, 10];

export function createMetrics(clock: Clock, version: string): Metrics {
  const registry = new Registry();
  const registers = [registry];
  new Gauge({ name: 'sallyport_build_info', help: 'Version of this process.', labelNames: ['version'], registers })
    .labels(version)
    .set(1);
  new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory.',
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  const cpu = new Counter({ name: 'process_cpu_seconds_total', help: 'CPU time used, user and system.', registers });
  let cpuSeen = 0;

  const sessions = new Gauge({
    name: 'sallyport_sessions',
    help: 'Live, authenticated sessions.',
    labelNames: ['connection'],
    registers,
  });
  const ended = new Counter({
    name: 'sallyport_sessions_ended_total',
    help: 'Sessions that ended, by why; Closed: by client or target.',
    labelNames: ['connection', 'reason'],
    registers,
  });
  const decisions = new Counter({
    name: 'sallyport_decisions_total',
    help: 'Commands decided.',
    labelNames: ['kind', 'code'],
    registers,
  });
  const holds = new Gauge({ name: 'sallyport_holds', help: 'Commands waiting for consent now.', registers });
  const holdsEnded = new Counter({
    name: 'sallyport_holds_ended_total',
    help: 'Holds that ended, by how.',
    labelNames: ['outcome'],
    registers,
  });
  const masked = new Counter({ name: 'sallyport_mask_hits_total', help: 'Values masked in results.', registers });
  const latency = cheapHistogram(
    'sallyport_added_latency_seconds',
    'What the gateway added to one command, without waiting for people.',
    LATENCY_BUCKETS,
  );
  const lag = new Histogram({
    name: 'sallyport_record_lag_seconds',
    help: 'From queueing a record to its being written.',
    buckets: LAG_BUCKETS,
    registers,
  });
  const writable = new Gauge({
    name: 'sallyport_records_writable',
    help: '1 while records can be written.',
    registers,
  });
  const due = new Gauge({
    name: 'sallyport_sign_offs_due',
    help: 'Grants taken by break-glass or opened under seal that nobody has signed off.',
    registers,
  });
  const notices = new Counter({
    name: 'sallyport_notices_total',
    help: 'Messages of notifiers, by what became of them.',
    labelNames: ['type', 'outcome'],
    registers,
  });
  const authFailures = new Counter({
    name: 'sallyport_auth_failures_total',
    help: 'Logins refused, by code.',
    labelNames: ['code'],
    registers,
  });
  const renewals = new Counter({
    name: 'sallyport_session_renewals_total',
    help: 'Proofs by which live sessions were to go on, by what became of them.',
    labelNames: ['outcome'],
    registers,
  });
  const refused = new Counter({
    name: 'sallyport_sockets_refused_total',
    help: 'Sockets closed unread because a limit was reached.',
    labelNames: ['reason'],
    registers,
  });
  const badShards = new Counter({
    name: 'sallyport_bundle_rejected_total',
    help: 'Bundle shards refused; the last good one stayed in force.',
    labelNames: ['reason'],
    registers,
  });
  const generation = new Gauge({
    name: 'sallyport_bundle_generation',
    help: 'Policy generation in force.',
    labelNames: ['connection'],
    registers,
  });
  const heartbeats = new Map<string, number | undefined>();
  const labelled = (connection: string): { connection: string } => ({ connection });
  new Gauge({
    name: 'sallyport_bundle_age_seconds',
    help: 'Since the last heartbeat of the controller; +Inf before the first.',
    labelNames: ['connection'],
    registers,
    collect() {
      this.reset();
      for (const [connection, at] of heartbeats) {
        const age = at === undefined ? Number.POSITIVE_INFINITY : Math.max(0, clock.now() - at) / 1000;
        this.set(labelled(connection), age);
      }
    },
  });

  // Looking a child up by labels costs more than counting: the few there are get remembered.
  const children = new Map<string, { inc(): void }>();
  function decision(kind: string, code = ''): void {
    const key = `${kind} ${code}`;
    let child = children.get(key);
    if (child === undefined) children.set(key, (child = decisions.labels(kind, code)));
    child.inc();
  }

  return {
    sessionStarted: (connection) => sessions.inc(labelled(connection)),
    sessionEnded(connection, reason) {
      sessions.dec(labelled(connection));
      ended.inc({ connection, reason });
    },
    decision,
    masked: (values) => masked.inc(values),
    latency: (milliseconds) => latency.observe(milliseconds / 1000),
    recordLag: (milliseconds) => lag.observe(milliseconds / 1000),
    recordsWritable: (value) => writable.set(value ? 1 : 0),
    holdOpened: () => holds.inc(),
    holdClosed(outcome) {
      holds.dec();
      holdsEnded.inc({ outcome });
    },
    signOffsDue: (count) => due.set(count),
    notice: (type, outcome) => notices.inc({ type, outcome }),
    authFailure: (code) => authFailures.inc({ code }),
    renewal: (outcome) => renewals.inc({ outcome }),
    socketRefused: (reason) => refused.inc({ reason }),
    badShard: (reason) => badShards.inc({ reason }),
    bundle(connection, value, heartbeatAtMs) {
      generation.set(labelled(connection), value);
      heartbeats.set(connection, heartbeatAtMs);
    },
    connectionGone(connection) {
      generation.remove(labelled(connection));
      heartbeats.delete(connection);
    },
    async render() {
      const { user, system } = process.cpuUsage();
      const seconds = (user + system) / 1e6;
      cpu.inc(Math.max(0, seconds - cpuSeen));
      cpuSeen = seconds;
      return {
        contentType: registry.contentType,
        body: `${(await registry.metrics()).trimEnd()}\n\n${latency.text()}`,
      };
    },
  };
}

/** A histogram without labels for what happens with every command: counting is a few comparisons. */
function cheapHistogram(
  name: string,
  help: string,
  buckets: readonly number[],
): { observe(value: number): void; text(): string } {
  const counts = new Float64Array(buckets.length + 1);
  let sum = 0;
  return {
    observe(value) {
      let at = 0;
      while (at < buckets.length && value > buckets[at]!) at += 1;
      counts[at]! += 1;
      sum += value;
    },
    text() {
      let total = 0;
      const lines = [...buckets.map(String), '+Inf'].map((le, at) => {
        total += counts[at]!;
        return `${name}_bucket{le="${le}"} ${total}`;
      });
      const head = [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`];
      return `${[...head, ...lines, `${name}_sum ${sum}`, `${name}_count ${total}`].join('\n')}\n`;
    },
  };
}

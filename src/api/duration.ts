// Durations as resources spell them: `1h`, `90m`, `1h30m`.

const UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000 };

/** Milliseconds, or undefined if the text is no duration. */
export function parseDuration(text: string): number | undefined {
  if (!/^([0-9]{1,5}[hms])+$/.test(text)) return undefined;
  let total = 0;
  for (const [, count, unit] of text.matchAll(/([0-9]{1,5})([hms])/g)) total += Number(count) * UNIT_MS[unit!]!;
  return total;
}

/** The shortest spelling: `1h30m`; `0s` for nothing. Parts of a second are dropped. */
export function formatDuration(ms: number): string {
  let seconds = Math.max(0, Math.floor(ms / 1000));
  const hours = Math.floor(seconds / 3600);
  seconds -= hours * 3600;
  const minutes = Math.floor(seconds / 60);
  seconds -= minutes * 60;
  return `${hours ? `${hours}h` : ''}${minutes ? `${minutes}m` : ''}${seconds || !(hours || minutes) ? `${seconds}s` : ''}`;
}

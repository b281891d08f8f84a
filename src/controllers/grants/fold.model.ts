// Test support: the life of a grant by definition instead of by folding. It scans every moment at which anything could
// happen and asks, from scratch, what is true then. Slow, and written without a look at fold.ts.
import { groupPersons } from '../../policy/persons.ts';
import { matchesAny } from '../../policy/subjects.ts';
import type { GrantCase, Vote } from './fold.ts';

interface Model {
  phase: string;
  startMs: number | undefined;
  endMs: number | undefined;
  counted: string[];
}

/** Whether two of these are one person (no second: whether the first may not judge), given who had voted up to and including `upTo` (position in order). */
function onePerson(grant: GrantCase, order: readonly Vote[], upTo: number, a: Vote, b: Vote | undefined): boolean {
  const barred = [grant.requester, ...(grant.beneficiary === undefined ? [] : [grant.beneficiary])];
  const groups = groupPersons([...barred, ...order.slice(0, upTo + 1).map((vote) => vote.voter)]);
  const of = (vote: Vote): number => groups[order.indexOf(vote) + barred.length]!;
  return b === undefined ? barred.some((_, index) => groups[index] === of(a)) : of(a) === of(b);
}

export function modelGrant(grant: GrantCase, votes: readonly Vote[], now: number): Model {
  const rank = (vote: Vote): number => (vote.decision === 'Approve' ? 3 : vote.decision === 'Withdraw' ? 1 : 0);
  const order = votes
    .map((vote) => (vote.decision === 'Approve' ? vote : { ...vote, atMs: Math.max(vote.atMs, grant.t0Ms) }))
    .filter((vote) => vote.atMs <= now)
    .sort((a, b) => a.atMs - b.atMs || rank(a) - rank(b) || (a.uid < b.uid ? -1 : 1));
  const deadline = Math.min(
    grant.t0Ms + grant.timeoutMs,
    grant.notBeforeMs === undefined ? Infinity : grant.notBeforeMs + grant.durationMs,
  );
  // The first thing that stops a request or a grant, whatever else happens.
  const stops = order.flatMap((vote, index) => {
    const objects =
      (vote.decision === 'Deny' || vote.decision === 'Revoke') &&
      matchesAny(grant.objectors, vote.voter, grant.namespace);
    const withdraws = vote.decision === 'Withdraw' && onePerson(grant, order, index, vote, undefined);
    return objects || withdraws ? [{ at: vote.atMs, rank: rank(vote) }] : [];
  });
  const cut = grant.parent?.cutAtMs;
  if (cut !== undefined && Math.max(cut, grant.t0Ms) <= now) stops.push({ at: Math.max(cut, grant.t0Ms), rank: 0 });
  stops.sort((a, b) => a.at - b.at || a.rank - b.rank);
  const stop = stops[0];
  const before = (at: number, r: number): boolean =>
    stop === undefined || at < stop.at || (at === stop.at && r < stop.rank);

  // Fill the steps one after the other, each time searching all votes.
  const counted: Vote[] = [];
  let opened = grant.t0Ms;
  let from = -1;
  let filled = 0;
  for (const step of grant.steps) {
    const mine: Vote[] = [];
    for (let index = from + 1; index < order.length && mine.length < step.count; index += 1) {
      const vote = order[index]!;
      if (vote.decision !== 'Approve' || vote.atMs < opened || vote.atMs >= deadline || !before(vote.atMs, 3)) continue;
      if (vote.voter.username === '' || !matchesAny(step.approvers, vote.voter, grant.namespace)) continue;
      if (vote.lacks !== undefined || onePerson(grant, order, index, vote, undefined)) continue;
      if ([...counted, ...mine].some((other) => onePerson(grant, order, index, other, vote))) continue;
      mine.push(vote);
    }
    counted.push(...mine);
    if (mine.length < step.count) break;
    filled += 1;
    opened = mine.at(-1)!.atMs;
    from = order.indexOf(mine.at(-1)!);
  }
  const ids = counted.map((vote) => vote.uid);
  if (filled < grant.steps.length) {
    const phase =
      stop !== undefined && (stop.at < deadline || (stop.at === deadline && stop.rank < 2))
        ? 'Denied'
        : now >= deadline
          ? 'Expired'
          : 'Pending';
    return { phase, startMs: undefined, endMs: undefined, counted: ids };
  }
  const tau = opened;
  const extended = grant.parent !== undefined && tau < grant.parent.endMs;
  const startMs = extended ? grant.parent!.endMs : Math.max(tau, grant.notBeforeMs ?? tau);
  const endMs = (extended ? grant.parent!.endMs : (grant.notBeforeMs ?? tau)) + grant.durationMs;
  const first = (at: number): boolean => stop === undefined || at < stop.at || (at === stop.at && stop.rank > 2);
  let phase = 'Pending';
  if (now >= startMs && first(startMs)) {
    phase =
      startMs >= endMs
        ? 'Expired'
        : now >= endMs && first(endMs)
          ? 'Expired'
          : stop !== undefined
            ? 'Revoked'
            : 'Active';
  } else if (stop !== undefined) {
    // An approval and a stop in one millisecond: whichever is ranked first; after the approval it may be in force.
    phase = stop.at === startMs && tau === startMs && stop.rank > 3 ? 'Revoked' : 'Denied';
  }
  return { phase, startMs, endMs, counted: ids };
}

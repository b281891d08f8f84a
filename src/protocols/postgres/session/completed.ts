// What a statement that ran has done to the session's names: prepared statements, portals and cursors.
import { type Core, wireName } from './core.ts';
import type { Run } from './types.ts';

/** One statement of the run is over: what it did to names is certain now. */
export function completed(core: Core, run: Run): void {
  const statements = run.verdict.statements;
  const statement = statements?.[run.completed];
  run.completed += 1;
  if (run.verdict.defines && run.verdict.masking !== undefined) core.catalog().invalidate();
  const effect = statement?.command.facts.session;
  if (effect === undefined) return;
  const applied = run.effects.find((one) => one.effect === effect);
  switch (effect.kind) {
    case 'Prepare':
      if (applied?.prepared !== undefined) core.statements.confirm(wireName(effect.name), applied.prepared);
      break;
    case 'Declare':
      if (applied?.portal !== undefined) core.portals.confirm(wireName(effect.cursor), applied.portal);
      break;
    case 'Deallocate':
      if (effect.name === undefined) core.statements.clear();
      else core.statements.remove(wireName(effect.name));
      break;
    case 'CloseCursor':
      if (effect.cursor === undefined) core.portals.clear();
      else core.portals.remove(wireName(effect.cursor));
      break;
    case 'DiscardAll':
      core.statements.clear();
      core.portals.clear();
      break;
    default:
      break;
  }
}

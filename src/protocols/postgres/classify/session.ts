// The session's own state: transactions, settings, DISCARD.
import { NotUnderstood } from './findings.ts';
import { type Handler } from './handlers.ts';
import { as, constantText, flag, list, text } from './tree.ts';

const TRANSACTIONS: Readonly<
  Record<string, [tag: string, kind: 'Begin' | 'Commit' | 'Rollback' | 'Savepoint' | 'TwoPhase']>
> = {
  TRANS_STMT_BEGIN: ['BEGIN', 'Begin'],
  TRANS_STMT_START: ['START TRANSACTION', 'Begin'],
  TRANS_STMT_COMMIT: ['COMMIT', 'Commit'],
  TRANS_STMT_ROLLBACK: ['ROLLBACK', 'Rollback'],
  TRANS_STMT_SAVEPOINT: ['SAVEPOINT', 'Savepoint'],
  TRANS_STMT_RELEASE: ['RELEASE', 'Savepoint'],
  TRANS_STMT_ROLLBACK_TO: ['ROLLBACK', 'Savepoint'],
  TRANS_STMT_PREPARE: ['PREPARE TRANSACTION', 'TwoPhase'],
  TRANS_STMT_COMMIT_PREPARED: ['COMMIT PREPARED', 'TwoPhase'],
  TRANS_STMT_ROLLBACK_PREPARED: ['ROLLBACK PREPARED', 'TwoPhase'],
};

export const transaction: Handler = (walk, fields) => {
  const known = TRANSACTIONS[text(fields, 'kind') ?? 'TRANS_STMT_BEGIN'];
  if (known === undefined) throw new NotUnderstood('the transaction command is not known');
  const [tag, kind] = known;
  if (kind === 'TwoPhase') {
    // It outlives the session, or ends somebody else's.
    walk.found.effect('Write', 'prepared transaction', text(fields, 'gid') ?? '');
    if (tag === 'PREPARE TRANSACTION') walk.found.session = { kind: 'Commit' };
    return tag;
  }
  walk.found.session = { kind };
  walk.found.effect('Session');
  return tag;
};

export const set: Handler = (walk, fields) => {
  const { found } = walk;
  const name = (text(fields, 'name') ?? '').toLowerCase();
  const local = flag(fields, 'is_local');
  switch (text(fields, 'kind') ?? 'VAR_SET_VALUE') {
    case 'VAR_SET_VALUE': {
      const values = list(fields, 'args').map(constantText);
      const value = values.includes(undefined) ? undefined : values.join(', ');
      found.session = { kind: 'Set', name, value, local };
      found.setting(name, value);
      return 'SET';
    }
    case 'VAR_SET_DEFAULT':
      found.session = { kind: 'Reset', name };
      found.reset(name);
      return 'SET';
    case 'VAR_SET_CURRENT':
      found.session = { kind: 'Set', name, value: undefined, local };
      found.setting(name, undefined);
      return 'SET';
    case 'VAR_SET_MULTI': {
      if (name === 'transaction snapshot')
        found.setting('transaction_snapshot', list(fields, 'args').map(constantText)[0]);
      else if (name === 'transaction' || name === 'session characteristics') {
        const prefix = name === 'transaction' ? '' : 'default_';
        for (const node of list(fields, 'args')) {
          const element = as(node, 'DefElem');
          const mode = text(element, 'defname') ?? '*';
          const full = mode.startsWith('transaction_') ? mode : `transaction_${mode}`;
          found.setting(`${prefix}${full}`, constantText(element?.arg));
        }
      } else throw new NotUnderstood('the form of SET is not known');
      found.session = { kind: 'Set', name, value: undefined, local };
      return 'SET';
    }
    case 'VAR_RESET':
      found.session = { kind: 'Reset', name };
      found.reset(name);
      return 'RESET';
    case 'VAR_RESET_ALL':
      found.session = { kind: 'Reset', name: undefined };
      found.effect('Session');
      return 'RESET';
    default:
      throw new NotUnderstood('the form of SET is not known');
  }
};

export const DISCARDS: Readonly<Record<string, string>> = {
  DISCARD_ALL: 'DISCARD ALL',
  DISCARD_PLANS: 'DISCARD PLANS',
  DISCARD_SEQUENCES: 'DISCARD SEQUENCES',
  DISCARD_TEMP: 'DISCARD TEMP',
};

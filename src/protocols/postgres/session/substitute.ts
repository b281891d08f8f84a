// What the server is sent in place of what was refused (ADR 1): a message that it rejects itself.
import { DENIAL_SQLSTATE, type Refusal } from '../errors.ts';
import { parse, query } from '../wire/messages.ts';

// Rejected at raw parse, before anything is looked up; named, so that the client's unnamed statement survives.
const SUBSTITUTE_STATEMENT = 'sallyport denial';

export function substitute(mode: 'Query' | 'Extended', denial: string): Buffer {
  const sql = `SALLYPORT_REFUSED ${denial.replaceAll(/[^a-z0-9-]/g, '')}`;
  return mode === 'Query' ? query(sql) : parse(SUBSTITUTE_STATEMENT, sql);
}

/** What a batch becomes whose records could not be written. */
export function recordRefusal(): Refusal {
  return {
    code: 'RecordsUnwritable',
    message: 'Sallyport refused the command: it could not be recorded',
    hint: 'Nothing runs unrecorded. The gateway’s operators have to make room for records; try again then.',
    sqlState: DENIAL_SQLSTATE.RecordsUnwritable,
  };
}

// What the gateway sets for a session at the server, and what it watches in what the server reports. Pure.
import { isClientOnlyEncoding } from '../handshake/startup.ts';

/** NAMEDATALEN - 1: the server cuts what is longer. */
const LONGEST_NAME = 63;

/** `sallyport/ana@corp.example psql`: whom a DBA sees in pg_stat_activity. Only printable ASCII survives at the server. */
export function applicationName(username: string, application: string | undefined): string {
  const name = `sallyport/${username}${application === undefined ? '' : ` ${application}`}`;
  return name.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, LONGEST_NAME);
}

/** Majors the gateway was tried against; rules and masks rest on knowing how the server reads SQL. */
export function isTestedMajor(major: number): boolean {
  return major >= 13 && major <= 18;
}

/** Why a session can not go on once the server reports this; undefined: it can. */
export function intolerableParameter(name: string, value: string): string | undefined {
  if (name === 'standard_conforming_strings' && value !== 'on') {
    return 'standard_conforming_strings was turned off, so that quotes can not be told from text';
  }
  if (name === 'client_encoding' && isClientOnlyEncoding(value)) {
    return `client_encoding ${value} hides quotes inside characters`;
  }
  return undefined;
}

// Where things are in a state folder, for the daemon that writes them and the verbs that read them.

/** Public half of the operator's key, PEM: what records and bundles are verified against. */
export const OPERATOR_PUBLIC_KEY = 'pki/operator.pub';
/** The record folder. */
export const RECORDS = 'records';

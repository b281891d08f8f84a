// Messages of ssh-userauth (RFC 4252, 4256; OpenSSH's PROTOCOL, 3.1 for publickey-hostbound): read strictly, written plainly.
import { MalformedData, type Reader, readData, writeData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';

export const USERAUTH = 'ssh-userauth';
export const CONNECTION = 'ssh-connection';
export const HOSTBOUND = 'publickey-hostbound-v00@openssh.com';

export interface AuthRequest {
  user: string;
  service: string;
  method: AuthMethod;
}

export type AuthMethod =
  | { kind: 'None' }
  | {
      kind: 'PublicKey';
      /** A certificate's name where `blob` is one. */
      algorithm: string;
      blob: Buffer;
      /** Of the hostbound form: the host key that the client saw. */
      hostKey?: Buffer;
      /** Absent: it only asks. `signed` is the message up to the signature, as it came. */
      proof?: { signed: Buffer; signature: Buffer };
    }
  | { kind: 'KeyboardInteractive' }
  /** Known or not: not taken. Its fields were not looked at. */
  | { kind: 'Other'; name: string };

const LONGEST_USER = 512;
const LONGEST_NAME = 64;
const LONGEST_KEY = 32 * 1024;

/** Throws MalformedData. Keeps views of the payload. */
export function readAuthRequest(payload: Buffer): AuthRequest {
  const reader = readData(payload, 1);
  const user = reader.text(LONGEST_USER);
  const service = reader.text(LONGEST_NAME);
  const name = reader.text(LONGEST_NAME);
  return { user, service, method: readMethod(name, payload, reader) };
}

function readMethod(name: string, payload: Buffer, reader: Reader): AuthMethod {
  switch (name) {
    case 'none':
      reader.end();
      return { kind: 'None' };
    case 'publickey':
    case HOSTBOUND:
      return readPublicKeyMethod(name === HOSTBOUND, payload, reader);
    case 'keyboard-interactive':
      reader.text(LONGEST_NAME); // language: deprecated
      reader.text(1024); // submethods: a hint
      reader.end();
      return { kind: 'KeyboardInteractive' };
    default:
      return { kind: 'Other', name };
  }
}

function readPublicKeyMethod(hostbound: boolean, payload: Buffer, reader: Reader): AuthMethod {
  const hasSignature = reader.byte();
  // What is signed holds TRUE, which has one spelling for us.
  if (hasSignature > 1) throw new MalformedData('a boolean is neither 0 nor 1');
  const algorithm = reader.text(LONGEST_NAME);
  const blob = reader.string();
  if (blob.length > LONGEST_KEY) throw new MalformedData('a public key is too long');
  const hostKey = hostbound ? reader.string() : undefined;
  const signed = payload.subarray(0, reader.offset);
  const proof = hasSignature === 1 ? { signed, signature: reader.string() } : undefined;
  reader.end();
  return {
    kind: 'PublicKey',
    algorithm,
    blob,
    ...(hostKey === undefined ? {} : { hostKey }),
    ...(proof === undefined ? {} : { proof }),
  };
}

/** What the signature of a login is over. */
export function signedData(sessionId: Buffer, message: Buffer): Buffer {
  return writeData({ string: sessionId }, { raw: message });
}

export function serviceRequest(name: string): Buffer {
  return writeData({ byte: MSG.SERVICE_REQUEST }, { string: name });
}

export function serviceAccept(name: string): Buffer {
  return writeData({ byte: MSG.SERVICE_ACCEPT }, { string: name });
}

/** Throws MalformedData. */
export function readService(payload: Buffer): string {
  const reader = readData(payload, 1);
  const name = reader.text(LONGEST_NAME);
  reader.end();
  return name;
}

export function authFailure(methods: readonly string[]): Buffer {
  return writeData({ byte: MSG.USERAUTH_FAILURE }, { names: methods }, { boolean: false });
}

/** Throws MalformedData. */
export function readAuthFailure(payload: Buffer): { methods: readonly string[]; partial: boolean } {
  const reader = readData(payload, 1);
  const methods = reader.nameList();
  const partial = reader.boolean();
  reader.end();
  return { methods, partial };
}

export function authSuccess(): Buffer {
  return writeData({ byte: MSG.USERAUTH_SUCCESS });
}

/** Lines are separated as terminals want it; what else could move a cursor, or turn a line around, is taken out. */
export function banner(lines: readonly string[]): Buffer {
  const clean = lines.map((line) => line.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' '));
  return writeData({ byte: MSG.USERAUTH_BANNER }, { string: `${clean.join('\r\n')}\r\n` }, { string: '' });
}

export function keyAccepted(algorithm: string, blob: Buffer): Buffer {
  return writeData({ byte: MSG.USERAUTH_PK_OK }, { string: algorithm }, { string: blob });
}

export interface Prompt {
  text: string;
  echo: boolean;
}

export function infoRequest(name: string, instruction: string, prompts: readonly Prompt[]): Buffer {
  return writeData(
    { byte: MSG.USERAUTH_INFO_REQUEST },
    { string: name },
    { string: instruction },
    { string: '' },
    { uint32: prompts.length },
    ...prompts.flatMap(({ text, echo }) => [{ string: text }, { boolean: echo }]),
  );
}

const MOST_PROMPTS = 16;

/** Throws MalformedData. */
export function readInfoRequest(payload: Buffer): readonly Prompt[] {
  const reader = readData(payload, 1);
  reader.string(); // name
  reader.string(); // instruction
  reader.string(); // language
  const count = reader.uint32();
  if (count > MOST_PROMPTS) throw new MalformedData('too many prompts');
  const prompts: Prompt[] = [];
  for (let at = 0; at < count; at += 1) {
    // Some servers' prompts are in other encodings; what they say is not for us.
    const text = reader.string().toString('latin1');
    prompts.push({ text, echo: reader.boolean() });
  }
  reader.end();
  return prompts;
}

export function infoResponse(answers: readonly string[]): Buffer {
  return writeData(
    { byte: MSG.USERAUTH_INFO_RESPONSE },
    { uint32: answers.length },
    ...answers.map((answer) => ({ string: answer })),
  );
}

const LONGEST_ANSWER = 16 * 1024;

/** Exactly one answer. Throws MalformedData. */
export function readInfoResponse(payload: Buffer): string {
  const reader = readData(payload, 1);
  if (reader.uint32() !== 1) throw new MalformedData('one prompt has one answer');
  const answer = reader.text(LONGEST_ANSWER);
  reader.end();
  return answer;
}

export interface PublicKeyRequest {
  user: string;
  algorithm: string;
  blob: Buffer;
}

/** A signed login up to its signature. */
export function publicKeyRequest({ user, algorithm, blob }: PublicKeyRequest): Buffer {
  return writeData(
    { byte: MSG.USERAUTH_REQUEST },
    { string: user },
    { string: CONNECTION },
    { string: 'publickey' },
    { boolean: true },
    { string: algorithm },
    { string: blob },
  );
}

export function noneRequest(user: string): Buffer {
  return writeData({ byte: MSG.USERAUTH_REQUEST }, { string: user }, { string: CONNECTION }, { string: 'none' });
}

export function passwordRequest(user: string, password: string): Buffer {
  return writeData(
    { byte: MSG.USERAUTH_REQUEST },
    { string: user },
    { string: CONNECTION },
    { string: 'password' },
    { boolean: false },
    { string: password },
  );
}

export function keyboardInteractiveRequest(user: string): Buffer {
  return writeData(
    { byte: MSG.USERAUTH_REQUEST },
    { string: user },
    { string: CONNECTION },
    { string: 'keyboard-interactive' },
    { string: '' },
    { string: '' },
  );
}

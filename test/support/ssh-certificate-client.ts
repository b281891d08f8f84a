// OpenSSH's client with a user certificate that ssh-keygen has just made: the way of people whose provider signs their keys.
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { plainHostKeysOf } from '../../src/protocols/ssh/keys/derive.ts';
import { knownHostsLine } from '../../src/protocols/ssh/keys/known-hosts.ts';

export interface CertificateClient {
  /** Private key file of the authority that is to be trusted, as OpenSSH writes it. */
  readonly authority: string;
  /** Wire form of its public key, base64. */
  readonly authorityKey: string;
  /** Certifies the user's key anew, by ssh-keygen with these arguments, then runs `ssh … COMMAND` with it. */
  ssh(to: { port: number; user: string; seed: Buffer }, run: CertificateRun): Promise<Ran>;
  remove(): void;
}

export interface CertificateRun {
  /** Of ssh-keygen: `-n ana -V -1m:+5m`. */
  certificate: readonly string[];
  /** Default `echo in`. */
  command?: string;
  /** Who signs: the trusted authority, or somebody else. */
  by?: 'authority' | 'stranger';
  /** More of ssh's. */
  options?: Readonly<Record<string, string>>;
}

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

const VALID = ['-V', '-1m:+5m'];
/** What opens the grant of `name`. */
export const rightCertificate = (name: string): string[] => ['-n', name, ...VALID];

/** What ssh-keygen makes and nobody should take. */
export const wrongCertificates = (name: string): readonly CertificateRun[] => [
  { certificate: ['-n', 'bob', ...VALID] },
  { certificate: ['-n', `corp:${name}`, ...VALID] },
  { certificate: ['-n', '*', ...VALID] },
  { certificate: ['-n', name.toUpperCase(), ...VALID] },
  { certificate: VALID },
  { certificate: ['-n', name, '-V', '-10m:-5m'] },
  { certificate: ['-n', name, '-V', '+5m:+10m'] },
  { certificate: [...rightCertificate(name), '-h'] },
  { certificate: [...rightCertificate(name), '-O', 'force-command=id'] },
  { certificate: [...rightCertificate(name), '-O', 'source-address=192.0.2.0/24'] },
  { certificate: [...rightCertificate(name), '-O', 'critical:be-nice@corp.example=yes'] },
  { certificate: rightCertificate(name), by: 'stranger' },
];

export function certificateClient(): CertificateClient {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-certificates-'));
  const at = (name: string): string => path.join(folder, name);
  const keygen = (...args: string[]): void => void execFileSync('ssh-keygen', ['-q', ...args], { stdio: 'pipe' });
  for (const name of ['authority', 'stranger', 'user']) keygen('-t', 'ed25519', '-N', '', '-C', '', '-f', at(name));
  return {
    authority: at('authority'),
    authorityKey: fs.readFileSync(at('authority.pub'), 'utf8').split(' ')[1]!.trim(),
    ssh({ port, user, seed }, { certificate, command = 'echo in', by = 'authority', options = {} }) {
      keygen('-s', at(by), '-I', `${user}@laptop`, ...certificate, at('user.pub'));
      fs.writeFileSync(
        at('known_hosts'),
        plainHostKeysOf({ seed })
          .map(({ blob }) => `${knownHostsLine([{ host: '127.0.0.1', port }], blob)}\n`)
          .join(''),
      );
      const all = {
        UserKnownHostsFile: at('known_hosts'),
        GlobalKnownHostsFile: 'none',
        StrictHostKeyChecking: 'yes',
        IdentitiesOnly: 'yes',
        BatchMode: 'yes',
        IdentityFile: at('user'),
        CertificateFile: at('user-cert.pub'),
        ...options,
      };
      const args = Object.entries(all).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
      return new Promise((resolve) => {
        execFile(
          'ssh',
          ['-F', 'none', ...args, '-p', String(port), '-l', user, '127.0.0.1', command],
          { timeout: 30_000 },
          (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr }),
        );
      });
    },
    remove: () => fs.rmSync(folder, { recursive: true, force: true }),
  };
}

// What targets and clients are told of a Connection's SSH keys, and the host certificates its listener shows. The keys
// themselves are in keys/derive.ts. Pure: nothing secret leaves it.
import { hkdfSync } from 'node:crypto';
import type { KeySeeds, OwnKeys, PublishedName } from '../protocol.ts';
import { mintHostCertificate } from './keys/certificate.ts';
import { plainHostKeysOf, userAuthorityOf } from './keys/derive.ts';
import type { Signer } from './keys/key.ts';
import { certAuthorityLine, knownHostsLine, publicKeyLine } from './keys/known-hosts.ts';
import { ed25519Signer } from './keys/signer.ts';

/** For ever, as `known_hosts` files hold the key. */
const LABEL = 'sallyport/ssh/host-authority/ed25519/v1';

/** Certifies host keys of every Connection of the installation. Ed25519. */
export function hostAuthorityOf({ installation }: Pick<KeySeeds, 'installation'>): Signer {
  return ed25519Signer(Buffer.from(hkdfSync('sha256', installation, Buffer.alloc(0), LABEL, 32)));
}

/** A certificate names hosts without ports (sshd(8)). */
const principalsOf = (names: readonly PublishedName[]): string[] => [
  ...new Set(names.map(({ host }) => host.toLowerCase())),
];

export const sshOwnKeys: OwnKeys = {
  publish(seeds, names) {
    const keys = { seed: seeds.connection };
    const comment = names[0]?.host ?? '';
    return {
      ssh: {
        userAuthority: publicKeyLine(userAuthorityOf(keys).blob, comment),
        knownHosts: [
          certAuthorityLine(names, hostAuthorityOf(seeds).blob, 'sallyport'),
          ...plainHostKeysOf(keys).map(({ blob }) => knownHostsLine(names, blob)),
        ],
      },
    };
  },
  certify(seeds, names, { validAfterMs, validBeforeMs, random }) {
    const authority = hostAuthorityOf(seeds);
    const principals = principalsOf(names);
    return plainHostKeysOf({ seed: seeds.connection }).map(({ blob }) =>
      publicKeyLine(
        mintHostCertificate({
          authority,
          key: blob,
          keyId: principals[0] ?? '',
          principals,
          validAfterMs,
          validBeforeMs,
          random,
        }),
      ),
    );
  },
};

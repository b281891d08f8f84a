// A certificate as proof: its authority is one that an identity provider trusts, its principals are persons, and theirs is
// a grant. The protocol has verified the certificate and its key; who its authority speaks for is decided here.
import {
  type CertificateVerdict,
  type ProvenCertificate,
  trustsAuthority,
  verifyCertificate,
} from '../identity/ssh-certificates.ts';
import type { BundleGrant } from '../policy/bundle.ts';
import type { Proof, UserCertificate } from '../protocols/protocol.ts';
import type { ConnectionBundle } from './bundle-store.ts';
import { owns, readLoginName } from './grant-of.ts';
import type { ProofRequest, Proven } from './proof.ts';
import type { SessionWorld } from './session-world.ts';

function judge(bundle: ConnectionBundle, certificate: UserCertificate, nowMs: number): CertificateVerdict {
  return verifyCertificate(certificate, { providers: bundle.view?.identity?.providers ?? [], nowMs });
}

/** Whether its authority is trusted and its time is now: whose it is, is told by proving it. */
export function isOfferedCertificate(bundle: ConnectionBundle, certificate: UserCertificate, nowMs: number): boolean {
  return judge(bundle, certificate, nowMs).kind === 'Good';
}

/** Whether an authority that is trusted here is said to have made it for somebody with a grant. */
export function certificateNamesSomebody(bundle: ConnectionBundle, certificate: UserCertificate): boolean {
  const providers = bundle.view?.identity?.providers ?? [];
  if (!providers.some((provider) => trustsAuthority(provider, certificate.authority))) return false;
  const verdict = verifyCertificate(certificate, { providers, nowMs: certificate.validAfterMs });
  return verdict.kind === 'Good' && grantsOf(bundle, verdict.certificate).length > 0;
}

/** What is sealed opens by its own key: it is for when nobody may be able to get a certificate. */
function grantsOf(bundle: ConnectionBundle, { persons, provider }: ProvenCertificate): BundleGrant[] {
  return [...(bundle.view?.grants.values() ?? [])].filter(
    (grant) =>
      grant.sealed === undefined &&
      bundle.grant(grant.uid) !== undefined &&
      bundle.remaining(grant) > 0 &&
      persons.some((person) => owns(grant, { ...person, provider })),
  );
}

export async function proveByCertificate(
  world: SessionWorld,
  request: ProofRequest,
  proof: Extract<Proof, { kind: 'Certificate' }>,
): Promise<Proven> {
  const { bundle, connection } = request;
  const { clock } = world.options;
  const verdict = judge(bundle, proof.certificate, clock.now());
  if (verdict.kind === 'Bad') {
    return {
      kind: 'Failed',
      cause: `certificate: ${verdict.fault}${verdict.provider === undefined ? '' : ` (${verdict.provider})`}`,
      message: 'Sallyport does not accept this certificate.',
      hint: `${world.prefix} connect ${connection.name} logs in with the key of your grant.`,
    };
  }
  const { certificate } = verdict;
  const { account: user, grant: name } = readLoginName(proof.user);
  const named = (grants: readonly BundleGrant[]): BundleGrant[] =>
    name === undefined ? [...grants] : grants.filter((grant) => grant.name === name);
  const begun = ({ notBeforeMs }: BundleGrant): boolean => notBeforeMs <= clock.now();
  let own = grantsOf(bundle, certificate);
  if (!named(own).some(begun)) {
    await request.wait(() => named((own = grantsOf(bundle, certificate))).some(begun));
  }
  const current = named(own).filter(begun);
  const [grant = named(own).sort((a, b) => a.notBeforeMs - b.notBeforeMs)[0]] = current;
  const cause = `certificate ${JSON.stringify(certificate.keyId)} (${certificate.provider}): `;
  const spelled = own
    .map((each) => `${user}+${each.name}`)
    .sort()
    .slice(0, 8)
    .join(', ');
  if (current.length > 1) {
    return {
      kind: 'Unsuited',
      cause: `${cause}several grants fit`,
      answer: {
        code: 'UnknownUser',
        message: `You have ${current.length} grants on ${connection.name}: the user name has to say which.`,
        hint: `Log in as one of ${spelled}.`,
      },
    };
  }
  if (grant === undefined) {
    const again = `${world.prefix} request ${connection.name} --for 1h`;
    return {
      kind: 'Unsuited',
      cause: `${cause}no grant`,
      answer:
        own.length > 0
          ? {
              code: 'UnknownUser',
              message: `You have no grant ${JSON.stringify(name?.slice(0, 64))} on ${connection.name}.`,
              hint: `Log in as ${spelled}, or ask: ${again}`,
            }
          : { code: 'NotActive', message: `You have no grant in force on ${connection.name}.`, hint: again },
    };
  }
  return { kind: 'Proven', grant, login: { kind: 'Certificate', certificate } };
}

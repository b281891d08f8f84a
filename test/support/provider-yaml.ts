// An IdentityProvider as its administrator writes it, for the directory of a local mode or an object's text.
export function providerYaml(name: string, { issuer, ca }: { issuer: string; ca: string }, spec: string): string {
  const indented = (text: string, by: number): string => text.trim().replaceAll('\n', `\n${' '.repeat(by)}`);
  return `apiVersion: sallyport.dev/v1alpha1
kind: IdentityProvider
metadata: {name: ${name}}
spec:
  issuer: ${issuer}
  caBundle: |
    ${indented(ca, 4)}
  ${indented(spec, 2)}
`;
}

/** Claims of people, and the API server's own names for them, as the tests' providers have them. */
export const PEOPLE = `claims: {username: preferred_username, groups: groups, email: email}
kubernetes: {claim: preferred_username, prefix: ""}`;
/** How the tests' provider in process is logged in to. */
export const CLI_LOGIN =
  'login: {clientId: cli, deviceClientId: cli-device, scopes: [openid, profile, groups, offline_access], oauthScope: sallyport}';

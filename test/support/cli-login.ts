// `sallyport login` as a person does it: the page it prints is opened, and the person logs in there.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Idp } from './idp.ts';
import { SALLYPORT } from './local.ts';

/** Resolves with everything the command said. Rejects unless it succeeds. */
export async function logInBy(
  env: Readonly<Record<string, string>>,
  idp: Idp,
  user: string,
  options: { device?: boolean; args?: readonly string[] } = {},
): Promise<string> {
  const child = spawn(
    SALLYPORT,
    ['login', options.device === true ? '--device' : '--no-browser', ...(options.args ?? [])],
    { env: { ...env }, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let said = '';
  const done = new Promise<number | null>((resolve) => child.once('close', resolve));
  const timer = setTimeout(() => child.kill('SIGKILL'), 90_000);
  const pattern = options.device === true ? /or open (https:\S+)/ : /^(https:\S+)$/m;
  const url = new Promise<string>((resolve, reject) => {
    const take = (part: string): void => {
      said += part;
      const found = pattern.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    };
    child.stdout.setEncoding('utf8').on('data', take);
    child.stderr.setEncoding('utf8').on('data', take);
    void done.then((code) => reject(new Error(`login ended with ${code}\n${said}`)));
  });
  if (options.device === true) await idp.approveDevice(await url, user);
  else {
    const page = await fetch(await idp.authorize(await url, user));
    if (page.status !== 200) throw new Error(`the page after the login was ${page.status}`);
  }
  const code = await done;
  clearTimeout(timer);
  if (code !== 0) throw new Error(`login ended with ${code}\n${said}`);
  return said;
}

export interface LoginFile {
  file: string;
  tokens: { access: string; refresh: string; id: string; expiresAtMs: number; obtainedAtMs: number };
  /** Makes the login look as it would some time later. */
  age(ms: number): void;
}

/** The only login of a home that keeps its tokens in a file. */
export function loginFileOf(home: string): LoginFile {
  const folder = path.join(home, 'logins');
  const name = fs.readdirSync(folder).find((each) => each.endsWith('.json'));
  if (name === undefined) throw new Error(`there is no login in ${folder}`);
  const file = path.join(folder, name);
  const content = JSON.parse(fs.readFileSync(file, 'utf8')) as { tokens: { plain: LoginFile['tokens'] } };
  return {
    file,
    tokens: content.tokens.plain,
    age(ms) {
      content.tokens.plain.obtainedAtMs -= ms;
      content.tokens.plain.expiresAtMs -= ms;
      fs.writeFileSync(file, JSON.stringify(content), { mode: 0o600 });
    },
  };
}

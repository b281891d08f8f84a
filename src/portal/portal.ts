// What the portal is made of, for its parts.
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';
import type { BrowserSessions } from './browser-sessions.ts';
import type { Site } from './http.ts';
import type { Login } from './login.ts';
import type { World } from './world.ts';

export type PortalLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

export interface Portal {
  world: World;
  login: Login;
  sessions: BrowserSessions;
  site: Site;
  clock: Clock;
  random: Random;
  log: PortalLog;
}

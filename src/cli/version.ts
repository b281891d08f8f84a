// The version of this build, from package.json: beside src/ in a checkout, beside dist/ when built.
import { readFileSync } from 'node:fs';
import path from 'node:path';

export function version(): string {
  const file = path.resolve(import.meta.dirname, '../../package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

// Writes every file that is made from the source; `--check` writes nothing and exits 1 where one differs.
// A generator is one line in GENERATORS: {path, render}.
import fs from 'node:fs';
import path from 'node:path';
import { apiReference } from './generators/api-reference.ts';
import { chartCrds, installManifest } from './generators/chart.ts';
import { crdFiles } from './generators/crds.ts';
import { errorsReference } from './generators/errors-reference.ts';
import type { Generated } from './generators/generated.ts';

const GENERATORS: readonly Generated[] = [
  ...crdFiles(),
  apiReference,
  errorsReference,
  ...chartCrds(),
  installManifest,
];

/** Folders in which every file is generated, so that one nobody makes any more is removed. */
const OWNED_FOLDERS = ['crds', 'charts/sallyport/templates/crds', 'manifests'];

async function main(): Promise<number> {
  const root = path.resolve(import.meta.dirname, '..');
  const check = process.argv.includes('--check');
  const stale: string[] = [];
  for (const { path: file, render } of GENERATORS) {
    const absolute = path.join(root, file);
    const text = await render();
    if (fs.existsSync(absolute) && fs.readFileSync(absolute, 'utf8') === text) continue;
    stale.push(file);
    if (check) continue;
    fs.mkdirSync(path.dirname(absolute), { recursive: true });
    fs.writeFileSync(absolute, text);
  }
  for (const folder of OWNED_FOLDERS) {
    const absolute = path.join(root, folder);
    for (const name of fs.existsSync(absolute) ? fs.readdirSync(absolute) : []) {
      const file = `${folder}/${name}`;
      if (GENERATORS.some((generator) => generator.path === file)) continue;
      stale.push(file);
      if (!check) fs.rmSync(path.join(absolute, name));
    }
  }
  for (const file of stale) process.stdout.write(`${check ? 'differs' : 'wrote'} ${file}\n`);
  if (check && stale.length > 0) {
    process.stderr.write('Generated files differ from their source. Run: npm run generate\n');
    return 1;
  }
  return 0;
}

process.exitCode = await main();

// Fails where a file of src imports what its folder must not, exports a default, or only re-exports.
import fs from 'node:fs';
import path from 'node:path';
import { checkFile } from './imports.ts';

const root = path.resolve(import.meta.dirname, '..');
const files = fs
  .readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => `src/${file.replaceAll(path.sep, '/')}`)
  .sort();
const findings = files.flatMap((file) => checkFile(file, fs.readFileSync(path.join(root, file), 'utf8')));
for (const { file, line, message } of findings) process.stderr.write(`${file}:${line}: ${message}\n`);
if (findings.length > 0) process.exitCode = 1;

// Which folder of src may import which, and what no file may do. Pure: text in, findings out.
// Reads import and export statements with a scanner that knows comments, strings, templates and regular expressions
// well enough for this source; it is no parser, and `oxlint` and `tsc` check the rest.
import path from 'node:path';

/** Folder -> the folders it may import. Each may import itself. */
export const LAYERS: Readonly<Record<string, readonly string[]>> = {
  system: [],
  api: ['system'],
  policy: ['system', 'api'],
  recording: ['system', 'api', 'policy'],
  identity: ['system', 'api', 'policy'],
  protocols: ['system', 'api', 'policy', 'recording', 'identity'],
  gateway: ['system', 'api', 'policy', 'recording', 'identity', 'protocols'],
  kube: ['system', 'api'],
  // The seam names the principal who asks; nothing else of policy.
  store: ['system', 'api', 'policy', 'kube'],
  controllers: ['system', 'api', 'policy', 'recording', 'identity', 'store', 'kube'],
  // The shell of a proxy in its pod: small, so that it loads no controllers and no store.
  proxy: ['system', 'api', 'policy', 'recording', 'identity', 'protocols', 'gateway', 'kube', 'telemetry'],
  // The approval page and the API of pipelines: it sees what the operator decides with, and decides nothing itself.
  portal: ['system', 'api', 'policy', 'identity', 'store', 'controllers'],
  // For shells only: it may see what it measures, and only cli and proxy may see it.
  telemetry: ['system', 'api', 'policy', 'recording', 'identity', 'protocols', 'gateway'],
  cli: [
    'system',
    'api',
    'policy',
    'recording',
    'identity',
    'protocols',
    'gateway',
    'kube',
    'store',
    'controllers',
    'proxy',
    'portal',
    'telemetry',
  ],
};

/** Controllers are handed the pure half of each protocol, so they may name its types; types load nothing. */
const TYPE_SEAMS: readonly { folder: string; target: string }[] = [
  { folder: 'controllers', target: 'src/protocols/protocol.ts' },
];

/** Packages that are too large or too powerful for a folder. */
const REFUSED_PACKAGES: readonly { folders: readonly string[]; name: string; why: string }[] = [
  {
    folders: ['proxy', 'gateway', 'protocols', 'policy', 'recording', 'identity', 'api', 'system'],
    name: '@kubernetes/client-node',
    why: 'the data plane is handed a BundleFeed',
  },
];

export interface Finding {
  file: string;
  line: number;
  message: string;
}

export interface ImportStatement {
  specifier: string;
  line: number;
  /** `export … from`. */
  reexport: boolean;
  /** `import type … from`, `export type … from`. */
  typesOnly: boolean;
}

export interface ModuleShape {
  imports: ImportStatement[];
  defaultExportLine: number | undefined;
  /** Whether the file has statements and all are `export … from`. */
  barrel: boolean;
}

/** Findings of one file; `file` is relative to the repository: `src/policy/decide.ts`. */
export function checkFile(file: string, source: string): Finding[] {
  const findings: Finding[] = [];
  const find = (line: number, message: string): void => {
    findings.push({ file, line, message });
  };
  const shape = readModule(source);
  if (shape.defaultExportLine !== undefined) find(shape.defaultExportLine, 'default export; name it');
  if (shape.barrel) find(1, 'the file only re-exports; import from where things are');
  const [top, folder = ''] = file.split('/');
  if (top !== 'src' || !file.slice(4).includes('/')) return findings;
  const allowed = LAYERS[folder];
  if (allowed === undefined) {
    find(1, `src/${folder} is no known folder; add it to LAYERS in scripts/imports.ts`);
    return findings;
  }
  const isTest = file.endsWith('.test.ts');
  for (const { specifier, line, typesOnly } of shape.imports) {
    if (!specifier.startsWith('.')) {
      for (const { folders, name, why } of REFUSED_PACKAGES) {
        if (folders.includes(folder) && (specifier === name || specifier.startsWith(`${name}/`))) {
          find(line, `${folder} must not import ${name}: ${why}`);
        }
      }
      continue;
    }
    const target = path.posix.normalize(path.posix.join(path.posix.dirname(file), specifier));
    const [targetTop, targetFolder = ''] = target.split('/');
    if (targetTop !== 'src') {
      if (!(isTest && targetTop === 'test')) find(line, `imports ${target}, which is not in src`);
      continue;
    }
    if (!isTest && target.endsWith('.test.ts')) find(line, `imports the test ${target}`);
    const seam = typesOnly && TYPE_SEAMS.some((entry) => entry.folder === folder && entry.target === target);
    if (targetFolder !== folder && !allowed.includes(targetFolder) && !seam) {
      find(
        line,
        `${folder} must not import ${targetFolder} (${target}); it may import ${allowed.join(', ') || 'nothing'}`,
      );
    }
    const [protocol, otherProtocol] = [protocolOf(file), protocolOf(target)];
    if (protocol !== undefined && otherProtocol !== undefined && protocol !== otherProtocol) {
      find(line, `protocol ${protocol} must not import protocol ${otherProtocol} (${target})`);
    }
  }
  return findings;
}

/** `postgres` of `src/protocols/postgres/…`; undefined for what all protocols share. */
function protocolOf(file: string): string | undefined {
  const [, layer, protocol, ...rest] = file.split('/');
  return layer === 'protocols' && rest.length > 0 ? protocol : undefined;
}

export function readModule(source: string): ModuleShape {
  const code = blank(source);
  const imports: ImportStatement[] = [];
  const lineOf = (offset: number): number => source.slice(0, offset).split('\n').length;
  const specifierAt = (offset: number): string => {
    // Literals are blanked in `code` but stand in `source` at the same place.
    const quote = source[offset]!;
    return source.slice(offset + 1, source.indexOf(quote, offset + 1));
  };
  for (const match of code.matchAll(/(?<![\w$.])(import|export)\b([^;'"`]*?)\bfrom\s*(['"])/g)) {
    // `export const from = "…"` has an `=`, `import(` a call.
    if (/[=(]/.test(match[2]!)) continue;
    const quote = match.index + match[0].length - 1;
    imports.push({
      specifier: specifierAt(quote),
      line: lineOf(match.index),
      reexport: match[1] === 'export',
      typesOnly: /^\s*type\b(?!\s*,)/.test(match[2]!),
    });
  }
  for (const match of code.matchAll(/(?<![\w$.])import\s*(?:\(\s*)?(['"])/g)) {
    const quote = match.index + match[0].length - 1;
    imports.push({ specifier: specifierAt(quote), line: lineOf(match.index), reexport: false, typesOnly: false });
  }
  const byDefault = /(?<![\w$.])export\s+(?:default\b|\{[^}]*\bas\s+default\b)/.exec(code);
  const reexports = /(?<![\w$.])export\s+(?:type\s+)?(?:\*(?:\s+as\s+[\w$]+)?|\{[^}]*\})\s*from\s*(['"])[^'"]*\1\s*;?/g;
  const rest = code.replace(reexports, '').trim();
  return {
    imports,
    defaultExportLine: byDefault === null ? undefined : lineOf(byDefault.index),
    barrel: rest === '' && imports.some((statement) => statement.reexport),
  };
}

/** The source with comments, and the insides of strings, templates and regular expressions, as spaces. */
function blank(source: string): string {
  let out = '';
  let offset = 0;
  const skip = (end: number, keepEnds: boolean): void => {
    const text = source.slice(offset, end);
    const spaces = text.replace(/[^\n]/g, ' ');
    out += keepEnds && text.length > 1 ? text[0]! + spaces.slice(1, -1) + text.at(-1)! : spaces;
    offset = end;
  };
  while (offset < source.length) {
    const rest = source.slice(offset, offset + 2);
    if (rest === '//') {
      const end = source.indexOf('\n', offset);
      skip(end === -1 ? source.length : end, false);
    } else if (rest === '/*') {
      const end = source.indexOf('*/', offset + 2);
      skip(end === -1 ? source.length : end + 2, false);
    } else if (rest[0] === "'" || rest[0] === '"') {
      skip(endOfString(source, offset), true);
    } else if (rest[0] === '`') {
      skip(endOfTemplate(source, offset), true);
    } else if (rest[0] === '/' && startsRegExp(out)) {
      skip(endOfRegExp(source, offset), true);
    } else {
      out += source[offset]!;
      offset++;
    }
  }
  return out;
}

function endOfString(source: string, start: number): number {
  let offset = start + 1;
  while (offset < source.length && source[offset] !== source[start] && source[offset] !== '\n') {
    offset += source[offset] === '\\' ? 2 : 1;
  }
  return Math.min(source.length, offset + 1);
}

function endOfTemplate(source: string, start: number): number {
  let offset = start + 1;
  while (offset < source.length && source[offset] !== '`') {
    if (source[offset] === '\\') offset += 2;
    else if (source.startsWith('${', offset)) offset = endOfSubstitution(source, offset + 2);
    else offset++;
  }
  return Math.min(source.length, offset + 1);
}

function endOfSubstitution(source: string, start: number): number {
  let depth = 1;
  let offset = start;
  while (offset < source.length) {
    const character = source[offset]!;
    if (character === '`') offset = endOfTemplate(source, offset);
    else if (character === "'" || character === '"') offset = endOfString(source, offset);
    else {
      if (character === '{') depth++;
      if (character === '}' && --depth === 0) return offset + 1;
      offset++;
    }
  }
  return offset;
}

/** A slash divides after a value and begins a regular expression elsewhere. */
function startsRegExp(before: string): boolean {
  const text = before.trimEnd();
  return text === '' || /[=(,:[!&|?{};+\-*%<>~^]$|\b(?:return|typeof|case|in|of)$/.test(text);
}

function endOfRegExp(source: string, start: number): number {
  let inClass = false;
  for (let offset = start + 1; offset < source.length; offset++) {
    const character = source[offset]!;
    if (character === '\\') offset++;
    else if (character === '\n') return offset;
    else if (character === '[') inClass = true;
    else if (character === ']') inClass = false;
    else if (character === '/' && !inClass) return offset + 1;
  }
  return source.length;
}

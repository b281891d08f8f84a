// Patterns of paths at the target, as bytes in latin1: `/var/log/**`, `/srv/*/current/*.json`. `*` stands for any run of
// bytes within one part, `**` as a part for any parts, none included, so that `/var/log/**` is also about `/var/log`.
// Compares text only: what a link makes of a path is told by `FileAccess.resolved`, where somebody asked.
import { compileGlob } from '../../../policy/glob.ts';

export interface PathPattern {
  /** The path is described. */
  matches(path: string): boolean;
  /** Something at or below the path is described. */
  reaches(path: string): boolean;
  /** Whatever is described, so is all below it. */
  tree: boolean;
  /** Parts that are spelled out. */
  literals: ReadonlySet<string>;
}

export function latin1(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** Why it is no pattern, and what to write; undefined: it is one. */
export function pathProblem(pattern: string): string | undefined {
  if (!pattern.startsWith('/')) return `"${pattern}" is not absolute; write /var/log/** for example`;
  const parts = pattern.slice(1).split('/');
  if (parts.some((part) => part === '.' || part === '..')) return `"${pattern}" can never match: paths have no . or ..`;
  if (pattern !== '/' && parts.includes('')) return `"${pattern}" can never match: it has an empty part`;
  if (parts.some((part) => part.includes('**') && part !== '**'))
    return `"${pattern}" has ** beside other characters; write ** as a part of its own, or one *`;
  return undefined;
}

/** Linear in pattern x path. A path that is not absolute and plain matches nothing. */
export function compilePath(pattern: string): PathPattern {
  const source = partsOf(latin1(pattern)) ?? ['\0'];
  const parts = source.map((part) => (part === '**' ? undefined : compileGlob(part)));
  /** Which positions of the pattern are open after the whole path; undefined for a path that is none. */
  const after = (path: string): boolean[] | undefined => {
    const words = partsOf(path);
    if (words === undefined || !isPlainPath(path)) return undefined;
    let open = skipAny(parts, [true, ...new Array<boolean>(parts.length).fill(false)]);
    for (const word of words) {
      const next = new Array<boolean>(parts.length + 1).fill(false);
      parts.forEach((part, at) => {
        if (!open[at]) return;
        if (part === undefined) next[at] = true;
        else if (part(word)) next[at + 1] = true;
      });
      open = skipAny(parts, next);
    }
    return open;
  };
  return {
    matches: (path) => after(path)?.[parts.length] === true,
    reaches: (path) => after(path)?.includes(true) === true,
    tree: source.at(-1) === '**',
    literals: new Set(source.filter((part) => !part.includes('*'))),
  };
}

/** Absolute, without `.`, `..` and empty parts: what can be compared at all. */
export function isPlainPath(path: string): boolean {
  return partsOf(path)?.every((part) => part !== '' && part !== '.' && part !== '..') === true;
}

/** `**` may stand for nothing. */
function skipAny(parts: readonly unknown[], open: boolean[]): boolean[] {
  for (let at = 0; at < parts.length; at++) if (open[at] && parts[at] === undefined) open[at + 1] = true;
  return open;
}

function partsOf(path: string): string[] | undefined {
  if (!path.startsWith('/')) return undefined;
  return path === '/' ? [] : path.slice(1).replace(/\/$/, '').split('/');
}

/** The path that a shell's word names: absolute, `//` and `.` taken out; undefined where `..` or the working directory decide. */
export function plainPath(text: string): string | undefined {
  if (!text.startsWith('/')) return undefined;
  const parts = text.split('/').filter((part) => part !== '' && part !== '.');
  return parts.includes('..') ? undefined : latin1(`/${parts.join('/')}`);
}

// Hidden files are what shells and programs read when they start, and what lets somebody log in (.bashrc, .ssh, .config).
const PROGRAMS = new Set(['bin', 'sbin', 'libexec']);
const SYSTEM =
  /^\/(?:etc\/(?:(profile|profile\.d|bash\.bashrc|bashrc|zsh|zshenv|zshrc|zprofile|environment|environment\.d|ld\.so\.preload|ld\.so\.conf|ld\.so\.conf\.d|sudoers|sudoers\.d|doas\.conf|passwd|group|shadow|gshadow|pam\.d|pam\.conf|security|ssh|crontab|cron\.[a-z]+|anacrontab|init\.d|rc\.local|inittab|systemd|udev|modprobe\.d|xdg|hosts\.equiv|shells|login\.defs|nsswitch\.conf|inputrc|logrotate\.d|logrotate\.conf|apt|yum\.repos\.d|dhcp|network|NetworkManager|polkit-1|dbus-1|alternatives)(?:\/|$))|(lib|lib32|lib64|libx32|boot|proc|sys|dev)(?:\/|$)|usr\/(lib|lib32|lib64|libx32)(?:\/|$)|usr\/local\/(lib|lib64)(?:\/|$)|var\/spool\/(cron|at)(?:\/|$))/;

/**
 * The parts of a path that make a write to it more than a write: hidden files and directories (start-up files, `.ssh`),
 * directories of programs and libraries, what the system starts or trusts. A wide pattern does not permit these; each must be spelled out. Not every file that some program believes
 * is here: the account's own rights are the limit.
 */
export function sensitiveSegments(path: string): string[] {
  const found = (partsOf(path) ?? []).filter((part) => part.startsWith('.') || PROGRAMS.has(part));
  const system = SYSTEM.exec(path)
    ?.slice(1)
    .find((part) => part !== undefined);
  return system === undefined || found.includes(system) ? found : [...found, system];
}

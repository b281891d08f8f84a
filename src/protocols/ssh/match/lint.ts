// Problems of an `ssh` matcher that its schema does not see, and warnings about rules that are in order and yet promise
// more than they can keep.
import type { SshMatcher } from '../../../api/policy.ts';
import type { RuleAdvice, RuleToAdvise } from '../../../policy/session-policy.ts';
import { parseForwardPattern } from '../forwarding/destination.ts';
import { commandProblem, patternWords } from './command.ts';
import { isForbiddenVariable } from './environment.ts';
import { pathProblem } from './path.ts';

const KINDS = ['commands', 'shell', 'subsystems', 'paths', 'forwarding', 'env'] as const;

export function lintSshMatcher(matcher: SshMatcher): string[] {
  const problems: string[] = [];
  const given = KINDS.filter((kind) => matcher[kind] !== undefined);
  if (given.length > 1)
    problems.push(`${given.join(' and ')} are about different things and never match together; write a rule for each`);
  if (matcher.effects !== undefined && matcher.paths === undefined)
    problems.push('effects: they are about files; write paths beside, /** for all');
  if (matcher.shell === false) problems.push('shell: write true, or leave it out');
  const check = (
    field: string,
    patterns: readonly string[] | undefined,
    problemOf: (pattern: string) => string | undefined,
  ) => {
    for (const pattern of patterns ?? []) {
      const problem = problemOf(pattern);
      if (problem !== undefined) problems.push(`${field}: ${problem}`);
    }
  };
  check('commands', matcher.commands, commandProblem);
  check('paths', matcher.paths, pathProblem);
  check('forwarding', matcher.forwarding, (pattern) => {
    const parsed = parseForwardPattern(pattern);
    return parsed.kind === 'Bad' ? parsed.problem : undefined;
  });
  check('env', matcher.env, (pattern) => {
    if (!/^[A-Za-z_*][A-Za-z0-9_*]*$/.test(pattern)) return `"${pattern}" is no variable’s name`;
    return !pattern.includes('*') && isForbiddenVariable(pattern)
      ? `"${pattern}" is never set, whatever rules say: it may change what a program is`
      : undefined;
  });
  check('users', matcher.users, (pattern) =>
    /^[A-Za-z0-9_*#.@$-]+$/.test(pattern) ? undefined : `"${pattern}" is no user’s name`,
  );
  return problems;
}

// Programs whose purpose or everyday options run others.
const OPENS =
  /^(?:env|sudo|doas|su|xargs|find|nice|nohup|timeout|setsid|stdbuf|time|busybox|toybox|sh|bash|dash|ash|zsh|ksh|mksh|fish|csh|tcsh|python[0-9.]*|perl|ruby|node|php|lua|tclsh|awk|gawk|mawk|sed|ed|ex|vi|vim|nvim|view|nano|emacs|less|more|most|man|ssh|scp|sftp|rsync|git|tar|zip|make|docker|podman|kubectl|nsenter|unshare|chroot|script|screen|tmux|watch|parallel|strace|ltrace|gdb|systemd-run|systemctl|journalctl|crontab|at|mysql|psql|sqlite3|ftp|nmap|tcpdump|openssl|tee|cp|mv|dd|install|ln|wget|curl|apt|apt-get|dpkg|yum|dnf|rpm|pip|npm)$/;

/** `rules`: all of one policy. */
export function adviseSsh(rules: readonly RuleToAdvise[]): RuleAdvice[] {
  const advice: RuleAdvice[] = [];
  const of = (rule: RuleToAdvise): SshMatcher | undefined => rule.matcher as SshMatcher | undefined;
  const restricting = rules.filter(({ action, enforce }) => action !== 'Allow' && enforce);
  const allows = rules.filter(({ action }) => action === 'Allow');
  const running = allows.find(
    (rule) => of(rule) === undefined || of(rule)?.commands !== undefined || of(rule)?.shell === true,
  );
  const opening = allows.find((rule) => of(rule) === undefined || of(rule)?.shell === true);
  for (const rule of restricting) {
    const matcher = of(rule);
    for (const pattern of matcher?.commands ?? []) {
      const words = patternWords(pattern) ?? [];
      if (words.slice(1).some(({ text }) => text.startsWith('-')))
        advice.push({
          rule: rule.name,
          field: 'commands',
          message: `"${pattern}" names options, which can be spelled in other ways`,
          hint: 'name the program alone, or allow the forms that are meant',
        });
    }
    if (matcher?.commands !== undefined && opening !== undefined)
      advice.push({
        rule: rule.name,
        field: 'commands',
        message:
          of(opening) === undefined
            ? `while it is in force, rule "${opening.name}" permits no program: each must be named by an Allow`
            : `rule "${opening.name}" opens shells, in which no command is judged`,
        hint: 'allow the commands that are needed by their names',
      });
    if (matcher?.paths !== undefined && running !== undefined)
      advice.push({
        rule: rule.name,
        field: 'paths',
        message: `it is advisory: rule "${running.name}" permits programs, and those open files as they like`,
        hint: 'let the account’s rights at the target forbid it as well',
      });
    if (
      matcher?.forwarding?.some(
        (pattern) => !pattern.startsWith('/') && /^(?:listen:)?[^/[]*[a-z][^/[]*:/i.test(pattern),
      )
    )
      advice.push({
        rule: rule.name,
        field: 'forwarding',
        message: 'it goes by a name, and the same place may have others',
        hint: 'name its addresses as well, or allow the destinations that are meant',
      });
  }
  for (const rule of allows) {
    for (const pattern of of(rule)?.commands ?? []) {
      const words = patternWords(pattern) ?? [];
      const name = words[0]?.text.split('/').at(-1) ?? '';
      const open = words.at(-1)?.text === '**' || words.slice(1).some(({ text }) => text === '*');
      if (name.includes('*') && restricting.length > 0)
        advice.push({
          rule: rule.name,
          field: 'commands',
          message: `"${pattern}" names no program, so it permits none while a Deny or Hold is in force`,
          hint: 'write the names of the programs',
        });
      else if (open && OPENS.test(name))
        advice.push({
          rule: rule.name,
          field: 'commands',
          message: `"${pattern}" permits whatever ${name} can be told to do, other programs and files included`,
          hint: 'write its arguments out, or count on the rights of the account alone',
        });
    }
  }
  return advice;
}

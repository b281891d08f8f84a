// The last exec on a connection that is cut: kills what the connection's commands left running. Signals over the channels
// have come before; this finds what they do not reach: other process groups, daemons, children of children.
//
// Finds processes of the same login by three marks: SSH_CONNECTION in their environment, descent from the sshd process of
// this connection, and the audit session where sshd gives each login one of its own. Kills what its user may kill; names
// what is left. Does not find: what has cleared its environment, left its parents and is not audited.

/** Written to the script's stdin once the polite signals had their time. */
export const SWEEP_GO = 'go\n';

// One line without single quotes, exclamation marks and backslashes: every login shell there is hands it on
// unchanged, fish and csh too. Only POSIX sh, grep, sed and kill; /proc as Linux has it.
const SCRIPT = [
  'PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH; export PATH; LC_ALL=C; export LC_ALL',
  'par() { sed -n "s/^PPid:[^0-9]*//p" /proc/$1/status 2>/dev/null; }',
  'com() { cat /proc/$1/comm 2>/dev/null; }',
  'own=" $$ "; s=$PPID; n=0',
  // Up to the sshd process of this connection; what lies between is our own login shell.
  'while [ $n -lt 8 ]; do case "$(com $s)" in sshd*|dropbear*) break;; esac; own="$own$s "; s=$(par $s); n=$((n+1)); [ -n "$s" ] || s=0; [ "$s" -gt 1 ] || break; done',
  'case "$(com $s)" in sshd*|dropbear*) ;; *) s=0;; esac',
  'keep="$own$s "; a=; sid=$(cat /proc/self/sessionid 2>/dev/null)',
  'if [ "$s" -gt 1 ]; then p=$(par $s); g=$(par ${p:-0}); keep="$keep$p $g "; ' +
    // The session is the login's own only if the listener above has another one.
    'for l in $p $g; do case "$(com $l)" in sshd*) o=$(cat /proc/$l/sessionid 2>/dev/null); if [ -n "$sid" ] && [ -n "$o" ] && [ "$sid" -lt 4294967295 ] && [ "$o" -ne "$sid" ]; then a=$sid; fi;; esac; done; fi',
  'kids() { for k in $(cat /proc/$1/task/*/children 2>/dev/null); do case "$keep" in *" $k "*) ;; *) echo $k; kids $k;; esac; done; }',
  'mine() { if [ -n "$SSH_CONNECTION" ]; then e=$(cd /proc && grep -lzxF "SSH_CONNECTION=$SSH_CONNECTION" [0-9]*/environ 2>/dev/null); ' +
    'case "$e" in *[0-9]*) ;; *) e=$(cd /proc && grep -lF "SSH_CONNECTION=$SSH_CONNECTION" [0-9]*/environ 2>/dev/null);; esac; fi; ' +
    'if [ -n "$a" ]; then f=$(cd /proc && grep -lx "$a" [0-9]*/sessionid 2>/dev/null); fi; ' +
    'for x in $e $f; do x=${x%%/*}; case "$keep" in *" $x "*) ;; *) echo $x;; esac; done; if [ "$s" -gt 1 ]; then kids $s; fi; }',
  // Of ours, grep and subshells come and go: they are children of $$.
  'live() { for x in $(mine); do case "$seen" in *" $x "*) continue;; esac; seen="$seen$x "; q=$(par $x); [ -n "$q" ] || continue; ' +
    'case "$own" in *" $q "*) continue;; esac; case "$(sed -n "s/^State:[^A-Z]*//p" /proc/$x/status 2>/dev/null)" in Z*|X*) continue;; esac; echo $x; done; }',
  'read go; n=0; while :; do seen=" "; v=$(live); [ -n "$v" ] || break; kill -KILL $v 2>/dev/null; n=$((n+1)); [ $n -lt 4 ] || break; done',
  'seen=" "; for x in $(live); do echo "$x $(com $x)"; done; echo done',
].join('; ');

/** The command line of the sweep. */
export function sweepCommand(): string {
  return `sh -c '${SCRIPT}'`;
}

export interface Swept {
  /** `1234 sleep`: what still runs. */
  survivors: readonly string[];
  /** The script came to its end. */
  complete: boolean;
}

/** What the script wrote. The target is not to be believed about more than names. */
export function readSweep(output: string): Swept {
  const lines = output.split('\n');
  const survivors = lines
    .map((line) => /^([0-9]{1,10}) ([\x20-\x7e]{0,64})$/.exec(line))
    .filter((match) => match !== null)
    .map((match) => `${match[1]} ${match[2]}`)
    .slice(0, 50);
  return { survivors, complete: lines.includes('done') };
}

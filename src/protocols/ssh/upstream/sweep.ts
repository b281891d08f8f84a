// The last exec on a connection that is cut: kills what the connection's commands left running. Signals over the channels
// have come before; this finds what they do not reach: other process groups, daemons, children of children.
//
// Finds processes of the same login by three marks: SSH_CONNECTION in their environment, descent from the sshd process of
// this connection, and the audit session where sshd gives each login one of its own. Kills what its user may kill; names
// what is left. Does not find: what has cleared its environment, left its parents and is not audited.

/** What it writes once it knows whom to look for: before anything is signalled, as the signals tear families apart. */
export const SWEEP_READY = 'ready\n';
/** Written to the script's stdin once the polite signals had their time. */
export const SWEEP_GO = 'go\n';

// One line without single quotes, exclamation marks and backslashes: every login shell there is hands it on unchanged,
// fish and csh too. Only POSIX sh, grep, sleep and kill; /proc as Linux has it. Forks little: the target may be slow.
const SCRIPT = [
  'PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH; export PATH; LC_ALL=C; export LC_ALL',
  'com() { c=; read -r c </proc/$1/comm; } 2>/dev/null',
  'par() { q=; z=; while read -r y v w; do case $y in State:) z=$v;; PPid:) q=$v; break;; esac; done </proc/$1/status; } 2>/dev/null',
  'own=" $$ "; s=$PPID; n=0',
  // Up to the sshd process of this connection; what lies between is our own login shell.
  'while [ $n -lt 8 ]; do com $s; case $c in sshd*|dropbear*) break;; esac; own="$own$s "; par $s; s=${q:-0}; n=$((n+1)); [ $s -gt 1 ] || break; done',
  'com $s; case $c in sshd*|dropbear*) ;; *) s=0;; esac',
  'keep="$own$s "; a=; sid=; read -r sid 2>/dev/null </proc/self/sessionid',
  'if [ $s -gt 1 ]; then par $s; p=${q:-0}; par $p; g=${q:-0}; keep="$keep$p $g "; ' +
    // The audit session is the login's own only if the sshd above has another one.
    'for l in $p $g; do com $l; case $c in sshd*) o=; read -r o 2>/dev/null </proc/$l/sessionid; ' +
    'if [ "${sid:-4294967295}" -lt 4294967295 ] && [ -n "$o" ] && [ "$o" -ne "$sid" ]; then a=$sid; fi;; esac; done; fi',
  // Children of ours are grep and subshells, which come and go.
  'add() { case "$keep$found" in *" $1 "*) return;; esac; par $1; [ -n "$q" ] || return; case $z in Z|X) return;; esac; ' +
    'case "$own" in *" $q "*) return;; esac; found="$found$1 "; }',
  'kids() { for t in /proc/$1/task/*/children; do l=; read -r l <$t; for k in $l; do case "$own" in *" $k "*) ;; *) add $k; kids $k;; esac; done; done; } 2>/dev/null',
  'look() { found=" "; e=; f=; if [ -n "$SSH_CONNECTION" ]; then ' +
    'e=$(cd /proc && grep -lzxF "SSH_CONNECTION=$SSH_CONNECTION" [0-9]*/environ 2>/dev/null); ' +
    'case $e in *environ*) ;; *) e=$(cd /proc && grep -lF "SSH_CONNECTION=$SSH_CONNECTION" [0-9]*/environ 2>/dev/null);; esac; fi; ' +
    'if [ -n "$a" ]; then f=$(cd /proc && grep -lx "$a" [0-9]*/sessionid 2>/dev/null); fi; ' +
    'for x in $e $f; do add ${x%%/*}; done; if [ $s -gt 1 ]; then kids $s; fi; for x in $first; do add $x; done; }',
  'first=; look; first=$found; echo ready; read -r go',
  'n=0; while [ $n -lt 5 ]; do look; [ "$found" = " " ] && break; kill -KILL $found 2>/dev/null; n=$((n+1)); sleep 0.03; done 2>/dev/null',
  'look; for x in $found; do com $x; echo "$x $c"; done; echo done',
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

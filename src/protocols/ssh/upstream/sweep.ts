// The last words to a target whose session is cut: a script that ends what the connection's commands left running. Signals
// over channels reach process groups at best, and nothing of root's before OpenSSH 9.8; this finds the rest: other process
// groups, daemons, children of children.
//
// Finds processes of the same login by three marks: SSH_CONNECTION in their environment, descent from the sshd process of
// this connection, and the audit session where sshd gives each login one of its own. HUP and TERM, then, once they had
// their time, STOP, so that none forks away, and KILL. Names what is left. Needs /proc as Linux has it.
// Does not find: what has cleared its environment, left its parents and is not audited; what was started over other ways
// (cron, at, systemd). Runs as the target's user with that user's start-up files before it: who may write them can keep it
// from running, which the record tells, or have it lie, which nobody can tell.

/**
 * What is executed, early: how long a login shell takes to start is its user's doing, and nobody waits for that in a cut.
 * Every login shell there is hands it on unchanged, fish and csh too. Nothing of the user's environment gets into it.
 */
export const SWEEP_COMMAND = 'exec /usr/bin/env -i SSH_CONNECTION="$SSH_CONNECTION" /bin/sh -s sallyport';

/** Between the polite signals and KILL, milliseconds; in the script two naps. */
export const GRACE_MS = 200;

// Forks little: the target may be busy. What is read from standard input is read before anything runs, as the body of one
// function.
const SCRIPT = `
com() { c=; read -r c <"/proc/$1/comm"; } 2>/dev/null
par() { q=; z=; while read -r y v w; do case $y in State:) z=$v;; PPid:) q=$v; break;; esac; done <"/proc/$1/status"; } 2>/dev/null
nap() { sleep "$1" 2>/dev/null || sleep 1; }
runs() { par "$1"; case $z in ''|Z|X) return 1;; esac; }
# What is ours comes and goes.
add() {
  case "$keep$found" in *" $1 "*) return;; esac
  runs "$1" || return
  case "$own" in *" $q "*) return;; esac
  found="$found$1 "
}
kids() {
  for t in /proc/"$1"/task/*/children; do
    l=; read -r l <"$t"
    for k in $l; do case "$own" in *" $k "*) ;; *) add "$k"; kids "$k";; esac; done
  done
} 2>/dev/null
look() {
  found=' '; e=; f=
  if [ -n "$SSH_CONNECTION" ]; then
    e=$(cd /proc && grep -lzxF "SSH_CONNECTION=$SSH_CONNECTION" [0-9]*/environ 2>/dev/null)
    case $e in *environ*) ;; *) e=$(cd /proc && grep -lF "SSH_CONNECTION=$SSH_CONNECTION" [0-9]*/environ 2>/dev/null);; esac
  fi
  if [ -n "$a" ]; then f=$(cd /proc && grep -lx "$a" [0-9]*/sessionid 2>/dev/null); fi
  for x in $e $f; do add "\${x%%/*}"; done
  if [ "$s" -gt 1 ]; then kids "$s"; fi
  for x in $first; do add "$x"; done
}
sweep() {
  PATH=/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin; LC_ALL=C; export PATH LC_ALL; unset ENV
  [ -r /proc/self/status ] || return
  own=" $$ "; s=$PPID; n=0
  # Up to the sshd process of this connection; what lies between is our own login shell.
  while [ $n -lt 8 ]; do
    com "$s"; case $c in sshd*|dropbear*) break;; esac
    own="$own$s "; par "$s"; s=\${q:-0}; n=$((n+1)); [ "$s" -gt 1 ] || break
  done
  com "$s"; case $c in sshd*|dropbear*) ;; *) s=0;; esac
  keep="$own$s "; a=; sid=; read -r sid 2>/dev/null </proc/self/sessionid
  if [ "$s" -gt 1 ]; then
    par "$s"; p=\${q:-0}; par "$p"; g=\${q:-0}; keep="$keep$p $g "
    # The audit session is the login's own only if the sshd above has another one.
    for l in $p $g; do
      com "$l"; case $c in sshd*) ;; *) continue;; esac
      o=; read -r o 2>/dev/null <"/proc/$l/sessionid"
      if [ "\${sid:-4294967295}" -lt 4294967295 ] && [ -n "$o" ] && [ "$o" -ne "$sid" ]; then a=$sid; fi
    done
  fi
  first=; look; first=$found
  # The polite signals tear families apart: whoever is known before is looked for after.
  echo "$mark ready"
  m=; for x in $first; do com "$x"; m="$m$mark ran $x $c
"; done
  { kill -HUP $first; kill -TERM $first; kill -CONT $first; } 2>/dev/null
  printf %s "$m"
  for n in 0.05 0.15; do
    r=; for x in $first; do if runs "$x"; then r=1; break; fi; done
    [ -n "$r" ] || break
    nap $n
  done
  n=0; stopped=" $first"; kill -STOP $first 2>/dev/null
  while [ $n -lt 5 ]; do
    # Until nobody new is there: who is stopped forks no more.
    i=0
    while [ $i -lt 8 ]; do
      look; new=; for x in $found; do case $stopped in *" $x "*) ;; *) new="$new$x ";; esac; done
      [ -n "$new" ] || break
      kill -STOP $new 2>/dev/null; stopped="$stopped$new"; i=$((i+1))
    done
    [ "$found" != ' ' ] || break
    kill -KILL $found 2>/dev/null; n=$((n+1)); stopped=' '; nap 0.02
  done
  look; for x in $found; do com "$x"; echo "$mark left $x $c"; done
  echo "$mark done"
}
`;

/** What the shell of `SWEEP_COMMAND` is told once the session is cut. `mark` begins its answers: letters and digits, not guessed. */
export function sweepScript(mark: string): string {
  return `${SCRIPT}mark=${mark}; sweep </dev/null; exit\n`;
}

export interface Swept {
  /** `1234 sleep`: what ran when the session was cut. */
  ran: readonly string[];
  /** What still runs. */
  survivors: readonly string[];
  /** The script has seen whom to signal, and signals them. */
  ready: boolean;
  /** It came to its end. */
  complete: boolean;
}

const MOST_NAMED = 50;

/** What the script wrote, after whatever start-up files did. The target is not to be believed about more than names. */
export function readSweep(output: string, mark: string): Swept {
  const lines = output
    .split('\n')
    .filter((line) => line.startsWith(`${mark} `))
    .map((line) => line.slice(mark.length + 1));
  const named = (word: string): string[] =>
    lines
      .map((line) => /^(ran|left) ([0-9]{1,10}) ([\x20-\x7e]{0,64})$/.exec(line))
      .filter((match) => match !== null)
      .filter((match) => match[1] === word)
      .map((match) => `${match[2]} ${match[3]}`)
      .slice(0, MOST_NAMED);
  return {
    ran: named('ran'),
    survivors: named('left'),
    ready: lines.includes('ready'),
    complete: lines.includes('done'),
  };
}

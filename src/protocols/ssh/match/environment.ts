// Which variables change what a program is, and which are harmless.

/** OpenSSH's clients send these by default; they choose words and terminals only. */
const HARMLESS = /^(?:LANG|LC_[A-Z]+|TERM|GIT_PROTOCOL)$/;

// What loaders, shells and interpreters take code, or the place of code, from. Lower-case ones are zsh's own.
const FORBIDDEN = new RegExp(
  `^(?:${[
    'PATH|IFS|ENV|BASH_.*|BASHOPTS|SHELLOPTS|CDPATH|FPATH|PS[0-4]|PROMPT.*|RPS[12]|RPROMPT|HOME|SHELL|USER|LOGNAME',
    'LD_.*|DYLD_.*|GCONV_PATH|NLSPATH|LOCPATH|MALLOC_.*|GLIBC_TUNABLES|HOSTALIASES|LOCALDOMAIN|RES_OPTIONS|GETCONF_DIR|TZDIR',
    'TERMINFO.*|TERMCAP|TERMPATH|INPUTRC|OPENSSL_.*|SSLKEYLOGFILE|.*_PRELOAD|TMPDIR|TMPPREFIX',
    'PYTHON.*|PERL.*|RUBY.*|NODE_.*|NPM_.*|JAVA_.*|_JAVA_.*|JDK_.*|CLASSPATH|PHP_.*|PHPRC|LUA_.*|GEM_.*|BUNDLE_.*|CARGO_.*|RUST.*|GO.*',
    'GIT_.*|SSH_.*|SUDO_.*|DOAS_.*|EDITOR|VISUAL|SYSTEMD_.*|PAGER|MANPAGER|LESS.*|BROWSER|DISPLAY|XAUTHORITY|DBUS_.*|XDG_.*|FCEDIT',
    'MODULE_PATH|MANPATH|MAILPATH|MAIL|FIGNORE|ZDOTDIR|NULLCMD|READNULLCMD|KEYTIMEOUT|WORDCHARS|HISTFILE|HISTCHARS|HIST.*|SAVEHIST',
    'UID|EUID|GID|EGID|USERNAME|PPID|SECONDS|RANDOM|SRANDOM|LINENO|OPTIND|OPTARG|OPTERR|POSIXLY_CORRECT|TMOUT|TIMEFMT|FUNCNEST|_|ARGV0',
    'EXECIGNORE|GLOBIGNORE|COMP_.*|COMPREPLY|DIRSTACK|FUNCNAME|GROUPS|HOSTNAME|HOSTTYPE|MACHTYPE|OSTYPE|PIPESTATUS|PWD|OLDPWD|SHLVL|REPLY|MAPFILE|COPROC|EPOCH.*|STTY|VISUALSTATUS|VARIABLES|COLUMNS|LINES|BAUD|CPUTYPE|VENDOR|TTY.*|ZSH.*|ZLS.*|ZBEEP|ZLE.*|SPROMPT|LOGCHECK|WATCH.*|DIRSTACKSIZE|LISTMAX|REPORT.*|TRY_.*|ERRNO|SUBSCRIPT.*',
  ].join('|')})$`,
);

/** Whether no rule lets it be set: zsh gives names in lower case meanings of their own, so only plain capitals are free. */
export function isForbiddenVariable(name: string): boolean {
  return !/^[A-Z][A-Z0-9_]*$/.test(name) || (FORBIDDEN.test(name) && !HARMLESS.test(name));
}

export function isHarmlessVariable(name: string): boolean {
  return HARMLESS.test(name);
}

// Completion scripts, from the verbs themselves: names of verbs and options; objects are not looked up.
import type { Command } from 'commander';
import { CliError, EXIT } from './io.ts';

export function completionScript(shell: string, program: Command): string {
  const name = program.name().split(' ').at(-1)!;
  const verbs = program.commands.map((each) => ({
    name: each.name(),
    summary: each.description(),
    words: [...each.commands.map((sub) => sub.name()), ...each.options, ...program.options].map((word) =>
      typeof word === 'string' ? word : (word.long ?? word.short ?? ''),
    ),
  }));
  switch (shell) {
    case 'bash':
      return `_${name}() {
  local word=\${COMP_WORDS[COMP_CWORD]}
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "${verbs.map((each) => each.name).join(' ')}" -- "$word")); return; fi
  case "\${COMP_WORDS[1]}" in
${verbs.map((each) => `    ${each.name}) COMPREPLY=($(compgen -W "${each.words.join(' ')}" -- "$word"));;`).join('\n')}
  esac
}
complete -o default -F _${name} ${name}
`;
    case 'zsh':
      return `#compdef ${name}
_${name}() {
  if (( CURRENT == 2 )); then
    local verbs=(${verbs.map((each) => `'${each.name}:${each.summary.replaceAll("'", '’').replaceAll(':', ' ')}'`).join(' ')})
    _describe verb verbs
    return
  fi
  case "$words[2]" in
${verbs.map((each) => `    ${each.name}) compadd -- ${each.words.join(' ')};;`).join('\n')}
  esac
}
compdef _${name} ${name}
`;
    case 'fish':
      return verbs
        .map(
          (each) =>
            `complete -c ${name} -n __fish_use_subcommand -f -a ${each.name} -d '${each.summary.replaceAll("'", '’')}'\n` +
            each.words
              .map((word) =>
                word.startsWith('--')
                  ? `complete -c ${name} -n '__fish_seen_subcommand_from ${each.name}' -l ${word.slice(2)}\n`
                  : `complete -c ${name} -n '__fish_seen_subcommand_from ${each.name}' -f -a ${word}\n`,
              )
              .join(''),
        )
        .join('');
    default:
      throw new CliError(EXIT.misconfigured, `There is no completion for ${shell}`, 'Write bash, zsh or fish.');
  }
}

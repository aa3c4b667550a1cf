//! What shells complete that only the daemon knows: operations and their
//! parameters. The rest of the scripts is clap's.
#![forbid(unsafe_code)]

use clap_complete::Shell;

/// Bash splits words at `=`, and expands what `compgen -W` is given: only the
/// letters of names are let through to it.
const BASH: &str = r#"
_usherctl_words() {
    local words
    words=$(usherctl "$@" 2>/dev/null)
    words=${words//[^a-z0-9_.=[:space:]]/}
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}

_usherctl_asking() {
    local at word command= operation=
    local -a where=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        case $word in
            --runtime-dir)
                [[ ${COMP_WORDS[at + 1]} == "=" ]] && ((at++))
                ((at++))
                where=(--runtime-dir "${COMP_WORDS[at]}")
                ;;
            -*) ;;
            *)
                if [[ -z $command ]]; then
                    command=$word
                elif [[ -z $operation ]]; then
                    operation=$word
                fi
                ;;
        esac
    done
    case "$command,$operation,${COMP_WORDS[COMP_CWORD]}" in
        run,*,-* | ops,*,-*) _usherctl "$@" ;;
        run,,* | ops,,*) _usherctl_words "${where[@]}" words ;;
        run,*,=) COMPREPLY=() ;;
        run,*)
            if [[ ${COMP_WORDS[COMP_CWORD - 1]} == "=" ]]; then
                COMPREPLY=()
            else
                compopt -o nospace 2>/dev/null
                _usherctl_words "${where[@]}" words "$operation"
            fi
            ;;
        *) _usherctl "$@" ;;
    esac
}

complete -F _usherctl_asking -o bashdefault -o default usherctl
"#;

const ZSH: &str = r#"
(( $+functions[_usherctl_operations] )) ||
_usherctl_operations() {
    local -a names
    local dir=${opt_args[--runtime-dir]}
    names=(${(f)"$(usherctl ${dir:+--runtime-dir=$dir} words 2>/dev/null)"})
    compadd -a names
}
(( $+functions[_usherctl_parameters] )) ||
_usherctl_parameters() {
    local -a keys
    local word operation dir=${opt_args[--runtime-dir]}
    for word in ${words[2,CURRENT-1]}; do
        [[ $word == -* ]] && continue
        operation=$word
        break
    done
    if compset -P '*=@'; then
        _files
    elif [[ $PREFIX != *=* ]]; then
        keys=(${(f)"$(usherctl ${dir:+--runtime-dir=$dir} words $operation 2>/dev/null)"})
        compadd -S '' -a keys
    fi
}
"#;

/// The arguments of clap's script that these functions are for.
const ZSH_ARGUMENTS: [(&str, &str, &str); 3] = [
    (
        "'::operation -- ",
        "'::operation -- ",
        "_usherctl_operations",
    ),
    ("':operation -- ", "':operation -- ", "_usherctl_operations"),
    (
        "'*::parameters -- ",
        "'*:parameters -- ",
        "_usherctl_parameters",
    ),
];

const FISH: &str = r#"
function __usherctl_words
    usherctl words $argv 2>/dev/null
end

function __usherctl_operation
    set -l words (commandline -opc)
    set -e words[1]
    argparse -s (__fish_usherctl_global_optspecs) -- $words 2>/dev/null
    or return
    set -l operands (string match -v -- '-*' $argv[2..])
    test -n "$operands[1]"
    and echo $operands[1]
end

complete -c usherctl -n "__fish_usherctl_using_subcommand ops; and not __usherctl_operation" -f -a "(__usherctl_words)"
complete -c usherctl -n "__fish_usherctl_using_subcommand run; and not __usherctl_operation" -f -a "(__usherctl_words)"
complete -c usherctl -n "__fish_usherctl_using_subcommand run; and __usherctl_operation; and not string match -q '*=*' -- (commandline -ct)" -f -a "(__usherctl_words (__usherctl_operation))"
"#;

/// clap's script of usherctl, with what it lacks.
#[must_use]
pub fn asking(script: &str, shell: Shell) -> String {
    match shell {
        Shell::Bash => format!("{script}{BASH}"),
        Shell::Fish => format!("{script}{FISH}"),
        Shell::Zsh => zsh(script),
        _ => script.to_owned(),
    }
}

/// Its functions stand before the end, where the script calls itself.
fn zsh(script: &str) -> String {
    let mut out = String::with_capacity(script.len() + ZSH.len());
    for line in script.lines() {
        if line.starts_with("if [ \"$funcstack[1]\"") {
            out.push_str(ZSH.trim_start());
            out.push('\n');
        }
        let known = ZSH_ARGUMENTS.iter();
        let found = known
            .filter(|(head, ..)| line.starts_with(head))
            .find_map(|known| Some((known, line.split_once(":_default'")?)));
        match found {
            Some(((head, new, function), (before, after))) => {
                let text = before.strip_prefix(head).unwrap_or(before);
                out.push_str(&format!("{new}{text}:{function}'{after}\n"));
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap_complete::generate;

    use super::*;
    use crate::ctl::arguments::Arguments;

    #[test]
    fn every_argument_that_asks_is_found() {
        let mut script = Vec::new();
        let name = "usherctl".to_owned();
        generate(Shell::Zsh, &mut Arguments::command(), name, &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        let text = asking(&script, Shell::Zsh);
        let count = |what: &str| text.matches(what).count();
        // `ops` and `run`.
        assert_eq!(count(":_usherctl_operations'"), 2, "{text}");
        assert_eq!(count(":_usherctl_parameters'"), 1, "{text}");
        assert_eq!(count("\n_usherctl_parameters() {"), 1);
    }
}

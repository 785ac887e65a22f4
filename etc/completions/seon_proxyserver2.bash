# Completion of seon_proxyserver2 for bash, made from its help.

_seon_proxyserver2() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
        esac
    done
    local words= values=
    case "$path" in
    "")
        words="-v --version -i --listen -L --proxy-id -l --licence -V --validity -h --help -d --foreground -u --user --state-dir --pid-file --replace-stale-pid --check --check-address --log-level --for"
        case "$before" in
        -i|--listen) return ;;
        -l|--licence) COMPREPLY=($(compgen -f -- "$word")); return ;;
        -u|--user) return ;;
        --state-dir) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --pid-file) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --check-address) return ;;
        --log-level) return ;;
        --for) return ;;
        esac
        ;;
    esac
    COMPREPLY=($(compgen -W "${values:-$words}" -- "$word"))
}

complete -o filenames -o bashdefault -F _seon_proxyserver2 seon_proxyserver2

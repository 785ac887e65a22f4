# Completion of seon_proxyclient2 for bash, made from its help.

_seon_proxyclient2() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
        " explain") path=-explain ;;
        esac
    done
    local words= values=
    case "$path" in
    "")
        words="-U --url -S --server -T --token -v --version -d --foreground -h --help -u --user --ca-file --state-dir --pid-file --replace-stale-pid --check --log-level --for --print-client-line --poll-interval explain"
        case "$before" in
        -U|--url) COMPREPLY=($(compgen -f -- "$word")); return ;;
        -S|--server) return ;;
        -T|--token) COMPREPLY=($(compgen -f -- "$word")); return ;;
        -u|--user) return ;;
        --ca-file) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --state-dir) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --pid-file) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --log-level) return ;;
        --for) return ;;
        --poll-interval) return ;;
        esac
        ;;
    "-explain")
        words="--certificate -U --url --address --called -T --token -h --help --ca-file"
        case "$before" in
        --certificate) COMPREPLY=($(compgen -f -- "$word")); return ;;
        -U|--url) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --address) return ;;
        --called) return ;;
        -T|--token) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --ca-file) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    esac
    COMPREPLY=($(compgen -W "${values:-$words}" -- "$word"))
}

complete -o filenames -o bashdefault -F _seon_proxyclient2 seon_proxyclient2

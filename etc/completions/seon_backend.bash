# Completion of seon_backend for bash, made from its help.

_seon_backend() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
        " init") path=-init ;;
        " serve") path=-serve ;;
        " config") path=-config ;;
        "-config check") path=-config-check ;;
        "-config export") path=-config-export ;;
        "-config import") path=-config-import ;;
        " token") path=-token ;;
        "-token new") path=-token-new ;;
        "-token list") path=-token-list ;;
        "-token disable") path=-token-disable ;;
        "-token enable") path=-token-enable ;;
        " events") path=-events ;;
        "-events show") path=-events-show ;;
        "-events set-state") path=-events-set-state ;;
        " sessions") path=-sessions ;;
        " status") path=-status ;;
        " crl-urls") path=-crl-urls ;;
        " fingerprint") path=-fingerprint ;;
        esac
    done
    local words= values=
    case "$path" in
    "")
        words="-h --help -V --version init serve config token events sessions status crl-urls fingerprint"
        case "$before" in
        esac
        ;;
    "-init")
        words="--host --listen --proxy-id -h --help"
        case "$before" in
        --host) return ;;
        --listen) return ;;
        --proxy-id) return ;;
        esac
        ;;
    "-serve")
        words="--config --database --listen --access-log --allow-private-crl-addresses --check -h --help"
        case "$before" in
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --listen) return ;;
        esac
        ;;
    "-config")
        words="-h --help check export import"
        case "$before" in
        esac
        ;;
    "-config-check")
        words="-h --help"
        case "$before" in
        esac
        ;;
    "-config-export")
        words="--out --with-private-keys --config -h --help"
        case "$before" in
        --out) return ;;
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-config-import")
        words="--config --dry-run -h --help"
        case "$before" in
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-token")
        words="-h --help new list disable enable"
        case "$before" in
        esac
        ;;
    "-token-new")
        words="--name --config --database -h --help"
        case "$before" in
        --name) return ;;
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-token-list")
        words="--config --database -h --help"
        case "$before" in
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-token-disable")
        words="--config --database -h --help"
        case "$before" in
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-token-enable")
        words="--config --database -h --help"
        case "$before" in
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-events")
        words="--from --to --severity --partner --code --state --last --format --json --config --database -h --help show set-state"
        case "$before" in
        --from) return ;;
        --to) return ;;
        --severity) return ;;
        --partner) return ;;
        --code) return ;;
        --state) values="new in-review closed" ;;
        --last) return ;;
        --format) values="text json" ;;
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-events-show")
        words="--format --json --config --database -h --help"
        case "$before" in
        --format) values="text json" ;;
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-events-set-state")
        words="--note --config --database -h --help"
        case "$before" in
        --note) return ;;
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-sessions")
        words="--config --database --format --json --last -h --help"
        case "$before" in
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --format) values="text json" ;;
        --last) return ;;
        esac
        ;;
    "-status")
        words="--config --database --format --json -h --help"
        case "$before" in
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --format) values="text json" ;;
        esac
        ;;
    "-crl-urls")
        words="--config --database -h --help"
        case "$before" in
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --database) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-fingerprint")
        words="-h --help"
        case "$before" in
        esac
        ;;
    esac
    COMPREPLY=($(compgen -W "${values:-$words}" -- "$word"))
}

complete -o filenames -o bashdefault -F _seon_backend seon_backend

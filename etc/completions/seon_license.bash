# Completion of seon_license for bash, made from its help.

_seon_license() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
        " issuer") path=-issuer ;;
        "-issuer new") path=-issuer-new ;;
        " issue") path=-issue ;;
        " show") path=-show ;;
        " check") path=-check ;;
        esac
    done
    local words= values=
    case "$path" in
    "")
        words="-h --help -V --version issuer issue show check"
        case "$before" in
        esac
        ;;
    "-issuer")
        words="-h --help new"
        case "$before" in
        esac
        ;;
    "-issuer-new")
        words="-h --help"
        case "$before" in
        esac
        ;;
    "-issue")
        words="--licensee --proxy-id --from --until --issuer-key --client --out -h --help"
        case "$before" in
        --licensee) return ;;
        --proxy-id) return ;;
        --from) return ;;
        --until) return ;;
        --issuer-key) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --client) return ;;
        --out) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-show")
        words="--issuer -h --help"
        case "$before" in
        --issuer) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    "-check")
        words="--proxy-id --issuer -h --help"
        case "$before" in
        --proxy-id) return ;;
        --issuer) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
        ;;
    esac
    COMPREPLY=($(compgen -W "${values:-$words}" -- "$word"))
}

complete -o filenames -o bashdefault -F _seon_license seon_license

# Completion of oftp2_station for bash, made from its help.

_oftp2_station() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
        " send") path=-send ;;
        " receive") path=-receive ;;
        " echo") path=-echo ;;
        esac
    done
    local words= values=
    case "$path" in
    "")
        words="-h --help -V --version send receive echo"
        case "$before" in
        esac
        ;;
    "-send")
        words="--to --via --directory --dataset --destination --description --text --record-length --variable-records --ask-signature --no-eerp-wait --code --password --peer-code --peer-password --level --buffer-size --credit --compression --no-restart --authentication-stub --misbehave --patience --tls --ca --cert --key --server-name --tls-insecure --tls-version --progress --json -h --help"
        case "$before" in
        --to) return ;;
        --via) return ;;
        --directory) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --dataset) return ;;
        --destination) return ;;
        --description) return ;;
        --record-length) return ;;
        --variable-records) return ;;
        --ask-signature) return ;;
        --code) return ;;
        --password) return ;;
        --peer-code) return ;;
        --peer-password) return ;;
        --level) return ;;
        --buffer-size) return ;;
        --credit) return ;;
        --misbehave) return ;;
        --patience) return ;;
        --ca) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --cert) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --key) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --server-name) return ;;
        --tls-version) values="both 1.2 1.3" ;;
        esac
        ;;
    "-receive")
        words="--listen --directory --once --eerp --negative-response --response-signature --ask-for-turn --send --code --password --peer-code --peer-password --level --buffer-size --credit --compression --no-restart --authentication-stub --misbehave --patience --tls --ca --cert --key --server-name --tls-insecure --tls-version --progress --json -h --help"
        case "$before" in
        --listen) return ;;
        --directory) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --once) return ;;
        --negative-response) return ;;
        --response-signature) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --send) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --code) return ;;
        --password) return ;;
        --peer-code) return ;;
        --peer-password) return ;;
        --level) return ;;
        --buffer-size) return ;;
        --credit) return ;;
        --misbehave) return ;;
        --patience) return ;;
        --ca) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --cert) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --key) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --server-name) return ;;
        --tls-version) values="both 1.2 1.3" ;;
        esac
        ;;
    "-echo")
        words="--listen --once --eerp --ask-for-turn --code --password --peer-code --peer-password --level --buffer-size --credit --compression --no-restart --authentication-stub --misbehave --patience --tls --ca --cert --key --server-name --tls-insecure --tls-version --progress --json -h --help"
        case "$before" in
        --listen) return ;;
        --once) return ;;
        --code) return ;;
        --password) return ;;
        --peer-code) return ;;
        --peer-password) return ;;
        --level) return ;;
        --buffer-size) return ;;
        --credit) return ;;
        --misbehave) return ;;
        --patience) return ;;
        --ca) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --cert) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --key) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --server-name) return ;;
        --tls-version) values="both 1.2 1.3" ;;
        esac
        ;;
    esac
    COMPREPLY=($(compgen -W "${values:-$words}" -- "$word"))
}

complete -o filenames -o bashdefault -F _oftp2_station oftp2_station

#compdef layflat
# Completion for zsh, by `layflat completions zsh`.

_layflat() {
    local -a lines open closed
    local line
    lines=("${(@f)$(command layflat complete -- "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    for line in "${lines[@]}"; do
        line=${line%%$'\t'*}
        case $line in
            '') continue ;;
            '~/'*) line="~/${(q)line[3,-1]}" ;;
            *) line=${(q)line} ;;
        esac
        if [[ $line == *[/:=] ]]; then open+=("$line"); else closed+=("$line"); fi
    done
    (( $#open )) && compadd -Q -S '' -- "${open[@]}"
    (( $#closed )) && compadd -Q -- "${closed[@]}"
}

if [[ $funcstack[1] == _layflat ]]; then
    _layflat "$@"
else
    compdef _layflat layflat
fi

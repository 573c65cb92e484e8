# Completion for bash 4.4 and later, by `layflat completions bash`.

_layflat() {
    local IFS=$'\n' rest=${COMP_LINE:0:COMP_POINT} words=() word current before= breaks line
    # What COMP_WORDBREAKS breaks, like oci:DIR:TAG, is one word.
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ ${#words[@]} -eq 0 || $rest == [[:space:]]* ]]; then
            rest=${rest#"${rest%%[![:space:]]*}"}
            words+=("")
        fi
        [[ $rest == "$word"* ]] || word=$rest
        words[${#words[@]}-1]+=$word
        rest=${rest#"$word"}
    done
    current=${words[${#words[@]}-1]}
    # Readline replaces what stands behind the last break.
    breaks=${COMP_WORDBREAKS//[^:=]/}
    if [[ -n $breaks && $current != [\"\']* ]]; then
        before=${current%"${current##*[$breaks]}"}
    fi
    COMPREPLY=()
    while read -r line; do
        line=${line%%$'\t'*}
        [[ $line == *[/:=] ]] && compopt -o nospace 2>/dev/null
        line=${line#"$before"}
        case $current in
            [\"\']*) ;;
            '~/'*) printf -v line '~/%q' "${line:2}" ;;
            *) [[ -z $line ]] || printf -v line '%q' "$line" ;;
        esac
        COMPREPLY+=("$line")
    done < <(command layflat complete -- "${words[@]:1}" 2>/dev/null)
}

complete -F _layflat layflat

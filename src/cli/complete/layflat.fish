# Completion for fish, by `layflat completions fish`.

function __layflat_complete
    set -l words (commandline -opc)
    set -e words[1]
    set -l current (commandline -ct)
    command layflat complete -- $words "$current" 2>/dev/null
end

complete -c layflat -f -a '(__layflat_complete)'

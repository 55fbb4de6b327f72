# SPDX-License-Identifier: GPL-2.0
# bash completion for pgprotect

_pgprotect_options()
{
	local target='--pid --map --largest --all --help'

	case $1 in
	doctor | list) echo '--json --help' ;;
	watch) echo "$target --again --duration --limit --json --quiet --summary" ;;
	fence) echo "$target --deny --duration --json --strict" ;;
	help) echo '--help' ;;
	*) echo '--help --version' ;;
	esac
}

# The process named before the cursor, for its mappings.
_pgprotect_pid()
{
	local i

	for ((i = 2; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-p | --pid) echo "${COMP_WORDS[i + 1]}" ;;
		esac
	done
}

_pgprotect()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local command=${COMP_WORDS[1]} commands='doctor watch fence list help'
	local i words=''

	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$commands $(_pgprotect_options)" -- "$cur")
		return
	fi
	for ((i = 2; i < COMP_CWORD; i++)); do
		if [[ $command == fence && ${COMP_WORDS[i]} == -- ]]; then
			# The rest is another command's.
			if ((i == COMP_CWORD - 1)); then
				mapfile -t COMPREPLY < <(compgen -c -- "$cur")
			else
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			fi
			return
		fi
	done
	case $prev in
	-p | --pid) words=$(cd /proc && echo [0-9]*) ;;
	--map) words=$(awk '$2 ~ /s$/ { print $1 }' "/proc/$(_pgprotect_pid)/maps" 2>/dev/null) ;;
	-a | --again | -d | --duration | --limit) return ;;
	*)
		if [[ $command == help ]]; then
			words=$commands
		elif [[ $cur == -* ]]; then
			words=$(_pgprotect_options "$command")
		elif [[ $command == watch || $command == fence ]]; then
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			return
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -o filenames -F _pgprotect pgprotect

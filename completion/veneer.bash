# SPDX-License-Identifier: MIT
# bash completion for veneer(1).  What there is to complete is asked of the program, so it is always
# what this version knows.

_veneer_commands() {
	veneer --help 2>/dev/null | sed -n '/^Other commands/,/^$/s/^  \([a-z]\{2,\}\) .*/\1/p'
}

# The flags of `veneer $1`, of mounting without $1; those that take a value end with "=".
_veneer_flags() {
	veneer ${1:+"$1"} --help 2>/dev/null |
		sed -n 's/^ \{1,6\}\(-[A-Za-z?], \)\?\(--[a-z][a-z-]*\)\(\[\?=\)\?.*/\2\3/p' | tr -d '['
}

# Names of kept layers.
_veneer_names() {
	local state=${XDG_STATE_HOME:-$HOME/.local/state}/veneer

	[[ $EUID -eq 0 ]] && state=/var/lib/veneer
	if [[ -d $state ]]; then
		(cd "$state" && compgen -d 2>/dev/null)
	fi
}

# Of the lines on standard input those that begin with $1 are offered; nothing in them is expanded.
_veneer_offer() {
	local line

	while IFS= read -r line; do
		[[ $line == "$1"* ]] && COMPREPLY+=("$line")
	done
}

# True of a flag that takes the next word, as --keep DIR.
_veneer_takes_word() {
	[[ $2 != *=* ]] && _veneer_flags "$1" | grep -qx -- "$2="
}

# Mount options: the last one of a list at commas.
_veneer_options() {
	local current=$1 before=

	if [[ $current == *,* ]]; then
		before=${current%,*},
		current=${current##*,}
	fi
	mapfile -t COMPREPLY < <(compgen -P "$before" -W "$(veneer --list-options 2>/dev/null)" -- "$current")
	compopt -o nospace
}

_veneer_value() {
	case $1 in
	--color) mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$2") ;;
	--format) mapfile -t COMPREPLY < <(compgen -W 'podman oci' -- "$2") ;;
	--compress) mapfile -t COMPREPLY < <(compgen -W 'zstd gzip none' -- "$2") ;;
	--name) _veneer_offer "$2" < <(_veneer_names) ;;
	*) mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
	esac
}

_veneer() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local first=${COMP_WORDS[1]} command='' i

	COMPREPLY=()
	if [[ $COMP_CWORD -gt 1 ]] && _veneer_commands | grep -qx -- "$first"; then
		command=$first
	fi
	if [[ $command == run ]]; then
		# Behind the first word that is no flag there is a command line.
		for ((i = 2; i < COMP_CWORD; i++)); do
			# "--keep=DIR" is three words to bash, "--keep DIR" is two.
			if [[ ${COMP_WORDS[i]} == -o ]] || _veneer_takes_word run "${COMP_WORDS[i]}"; then
				[[ ${COMP_WORDS[i + 1]-} == = ]] && ((i++))
				((i++))
			elif [[ ${COMP_WORDS[i]} != -* ]] || [[ ${COMP_WORDS[i]} == -- ]]; then
				[[ ${COMP_WORDS[i]} == -- ]] && ((i++))
				if declare -F _command_offset >/dev/null; then
					_command_offset "$i"
				elif [[ $i -eq $COMP_CWORD ]]; then
					mapfile -t COMPREPLY < <(compgen -c -- "$current")
				else
					mapfile -t COMPREPLY < <(compgen -f -- "$current")
				fi
				return
			fi
		done
	fi
	# "=" is a word of its own to bash.
	if [[ $previous == --name ]]; then
		_veneer_offer "$current" < <(_veneer_names)
	elif [[ $current == = ]]; then
		_veneer_value "$previous" ''
	elif [[ $previous == = ]]; then
		_veneer_value "${COMP_WORDS[COMP_CWORD - 2]}" "$current"
	elif [[ $previous == -o && -z $command ]]; then
		_veneer_options "$current"
	elif [[ $current == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_veneer_flags "$command")" -- "$current")
		[[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
	elif [[ $COMP_CWORD -eq 1 ]]; then
		mapfile -t COMPREPLY < <(compgen -W "mount $(_veneer_commands)" -- "$current"
			compgen -d -- "$current")
	elif [[ $command == run ]] && ! _veneer_takes_word run "$previous"; then
		mapfile -t COMPREPLY < <(compgen -c -- "$current")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		[[ -n $command && $command != run ]] && _veneer_offer "$current" < <(_veneer_names)
		compopt -o filenames 2>/dev/null
	fi
}

complete -F _veneer veneer

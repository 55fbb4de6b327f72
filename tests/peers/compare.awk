# SPDX-License-Identifier: GPL-2.0
# Are the results of all states the same, and those that are listed, if any are?
#
# Reads tests/peers/varies, tests/peers/expected and rows (see results.awk). A program may
# have run more than once in a state. A result is the same if the first state was seen to
# give it. Prints what is not; the last line is the count.
#
# Variables: names of the states; table=1 prints the list of results instead, for tests/peers/expected;
# again=FILE gets the programs that gave a result in a state that the first did not.

BEGIN {
	FS = "\t"
	states = split(names, state, " ")
	blank = "-"
}

FILENAME == ARGV[1] {
	if (/^(#|$)/)
		next
	varies++
	vary_program[varies] = $1
	vary_name[varies] = $2
	next
}

FILENAME == ARGV[2] {
	if (/^(#|$)/)
		next
	key = $0
	lists = 1
	split($0, field, " +")
	for (s = 1; s <= states; s++)
		sub(/^[^ ]+ +/, "", key)
	for (s = 1; s <= states; s++)
		listed[s, key] = field[s]
	note_key(key)
	next
}

{
	for (s = 1; s <= states && state[s] != $1; s++)
		;
	key = $3 ": " $4
	note_key(key)
	if ($4 == "(exit)")
		runs[s, $3]++
	if (!((s, key, $2) in given)) {
		given[s, key, $2] = 1
		times[s, key]++
	}
	add(s, key, $5)
}

# The programs in the order of the list, and their sub-tests in that of their first run.
function note_key(key,	program)
{
	if (key in known)
		return
	known[key] = 1
	program = key
	sub(/: .*/, "", program)
	if (!(program in keys_of))
		program_name[++programs] = program
	program_key[program, ++keys_of[program]] = key
	of[key] = program
}

function add(s, key, result,	i)
{
	if ((s, key, result) in has)
		return
	has[s, key, result] = 1
	# Sorted, so that the list does not depend on which came first.
	for (i = ++results[s, key]; i > 1 && one[s, key, i - 1] > result; i--)
		one[s, key, i] = one[s, key, i - 1]
	one[s, key, i] = result
}

function text_of(s, key,	i, text)
{
	for (i = 1; i <= results[s, key]; i++)
		text = text (i > 1 ? "|" : "") one[s, key, i]
	return text == "" ? blank : text
}

function is_varying(key,	i, name)
{
	name = substr(key, length(of[key]) + 3)
	for (i = 1; i <= varies; i++)
		if (of[key] == vary_program[i] && name ~ "^(" vary_name[i] ")$")
			return 1
	return 0
}

# Is there a result of state s that the first did not give? When both ran out of time, how far
# they came says nothing.
function differs(s, key,	i, late)
{
	late = (1, of[key] ": (exit)", "time-out") in has &&
	       (s, of[key] ": (exit)", "time-out") in has
	for (i = 1; i <= results[s, key]; i++)
		if (!((1, key, one[s, key, i]) in has) &&
		    !(late && (one[s, key, i] == "absent" || (1, key, "absent") in has)))
			return 1
	return 0
}

function is_listed(s, key,	i, n, want, ok)
{
	n = split(listed[s, key], want, "|")
	for (i in want)
		ok[want[i]] = 1
	for (i = 1; i <= results[s, key]; i++) {
		if (one[s, key, i] in ok)
			continue
		# A machine may have more to it, or less.
		if (one[s, key, i] == "skip" || "skip" in ok)
			unlike++
		else
			return 0
	}
	return 1
}

function show(what, key,	s)
{
	print what ": " key
	for (s = 1; s <= states; s++)
		printf "    %-8s %s%s\n", state[s], text_of(s, key), \
			(runs[s, of[key]] > 1 ? " in " runs[s, of[key]] " runs" : "")
	if (key in listed_line)
		printf "    %-8s %s\n", "listed", listed_line[key]
}

function finish_sets(	p, k, s, key)
{
	for (p = 1; p <= programs; p++) {
		for (k = 1; k <= keys_of[program_name[p]]; k++) {
			key = program_key[program_name[p], k]
			for (s = 1; s <= states; s++)
				if (times[s, key] < runs[s, program_name[p]])
					add(s, key, "absent")
			if ((1, key) in listed)
				listed_line[key] = listed[1, key] " " listed[2, key] " " listed[3, key]
		}
	}
}

function print_table(	p, k, key, ran)
{
	for (p = 1; p <= programs; p++) {
		ran = runs[1, program_name[p]]
		for (k = 1; k <= keys_of[program_name[p]]; k++) {
			key = program_key[program_name[p], k]
			if (is_varying(key))
				printf "%-8s %-8s %-8s %s\n", "varies", "varies", "varies", key
			else if (!ran)
				printf "%-8s %-8s %-8s %s\n", listed[1, key], listed[2, key], listed[3, key], key
			else if (text_of(1, key) text_of(2, key) text_of(3, key) != "absentabsentabsent")
				printf "%-8s %-8s %-8s %s\n", text_of(1, key), text_of(2, key), text_of(3, key), key
		}
	}
}

function compare_all(	p, k, s, key, program, bad)
{
	for (p = 1; p <= programs; p++) {
		program = program_name[p]
		if (!runs[1, program])
			continue
		for (k = 1; k <= keys_of[program]; k++) {
			key = program_key[program, k]
			if (is_varying(key)) {
				skipped++
				continue
			}
			bad = 0
			for (s = 2; s <= states; s++) {
				if (!differs(s, key))
					continue
				bad = 1
				if (again != "" && !((s, program) in asked)) {
					asked[s, program] = 1
					print state[s], program >again
				}
			}
			if (bad) {
				show("Differs from " state[1], key)
				failed++
				continue
			}
			if ((1, key, "none") in has) {
				show("Ended before its first sub-test", key)
				failed++
				continue
			}
			for (s = 1; s <= states && lists && !bad; s++)
				bad = !is_listed(s, key)
			if (bad) {
				show("Not as listed in tests/peers/expected", key)
				failed++
			} else if (text_of(1, key) == "skip")
				skipped++
			else
				passed++
		}
	}
	if (unlike)
		printf "%d sub-tests are skipped here, or were when the list was made\n", unlike
	printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
	return failed ? 1 : 0
}

END {
	finish_sets()
	if (table)
		print_table()
	else
		exit compare_all()
}

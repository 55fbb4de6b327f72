# SPDX-License-Identifier: GPL-2.0
# What run-guest printed, as rows: state, run, program, sub-test, result; with tabs between.
#
# Most of the programs print TAP; those that do not have their own words for it, each of
# which has a rule here. What differs from run to run is cut out of the names of the
# sub-tests; one that comes again gets a number. Variables: state, run.

function row(name, result)
{
	gsub(/[\t ]+/, " ", name)
	gsub(/0x[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]+/, "0x…", name)
	gsub(/[0-9.]+ ?(ns|us|ms|MiB\/s)/, "N", name)
	sub(/ \(iteration [0-9]+\)/, "", name)
	sub(/ Extra pages [0-9].*/, " extra pages", name)
	sub(/ *(\.|:|!)* *$/, "", name)
	sub(/^ +/, "", name)
	if (case_ != "")
		name = case_ ": " name
	if (seen[program, name]++)
		name = name " #" seen[program, name]
	if (name !~ /^\((exit|armed)\)$/)
		rows[program]++
	print state, run, program, name, result
}

# TAP of ksft ("ok 1 # SKIP name") and of the harness ("ok 1 name # SKIP why").
function tap(line,	result)
{
	result = line ~ /^ok/ ? "ok" : "fail"
	sub(/^(not )?ok [0-9]+ *-? */, "", line)
	if (line ~ /# *SKIP/)
		result = "skip"
	else if (line ~ /# *XFAIL/)
		result = "xfail"
	sub(/^# *(SKIP|XFAIL|XPASS|error) */, "", line)
	sub(/ +# *(SKIP|XFAIL|XPASS|error).*/, "", line)
	row(line, result)
}

function word(text)
{
	if (text ~ /^(done|ok|OK|PASS|\[OK\]|\[ok\])/)
		return "ok"
	if (text ~ /^(skip|Skip|SKIP|\[skip)/)
		return "skip"
	return "fail"
}

function exit_row(status)
{
	case_ = ""
	if (status == 124 || status == 137)
		status = "time-out"
	else if (status > 128)
		status = "signal-" (status - 128)
	row("(exit)", status)
	# Neither good nor skipped, and says not of what.
	if (status != 0 && status != 4 && !rows[program])
		row("(sub-tests)", "none")
}

# stress-ng: "stress-ng: fail:  [12] mmap: ..."
function stressor(line)
{
	sub(/^stress-ng: [a-z]+: +\[[0-9]+\] +/, "", line)
	sub(/[: ].*/, "", line)
	return line
}

BEGIN { FS = OFS = "\t" }

/^# begin / {
	program = substr($0, 9)
	case_ = ""
	next
}
/^# end [^ ]+ [0-9]+$/ {
	sub(/.* /, "")
	exit_row($0 + 0)
	program = ""
	next
}
/^# died / {
	case_ = ""
	program = $0
	sub(/^# died /, "", program)
	sub(/ .*/, "", program)
	sub(/^# died [^ ]* /, "")
	row("(exit)", $0)
	program = ""
	next
}
/^# not armed / {
	case_ = ""
	row("(armed)", "fail")
	next
}

program == "" || !/^\| / { next }

{
	sub(/^\| /, "")
	gsub(/\033\[[0-9;]*m/, "")
	sub(/\r+$/, "")
	sub(/^.*\r/, "")
}

/^# case: / { case_ = substr($0, 9); next }
/^(not )?ok [0-9]/ { tap($0); next }
/^Bail out!/ { row($0, "fail"); next }

# uffd-unit-tests
/^Testing .*\.\.\. / {
	text = $0
	sub(/^.*\.\.\. */, "", text)
	sub(/\.\.\. .*/, "")
	row(substr($0, 9), word(text))
	next
}

# khugepaged: the steps of a test
/^Run test: / { case_ = substr($0, 11); next }
program ~ /khugepaged/ && /\.\.\.+ *(OK|Fail|Timeout|Skip)/ {
	text = $0
	sub(/^.*\.\.+ */, "", text)
	sub(/\.\.\..*/, "")
	if (/^Restore THP/)
		case_ = ""
	row($0, word(text))
	next
}

# hugetlb-read-hwpoison
/\.\.\.TEST_(PASSED|FAILED|SKIPPED)$/ {
	text = $0
	sub(/^.*TEST_/, "", text)
	sub(/\.\.\.TEST_.*/, "")
	row($0, text == "PASSED" ? "ok" : text == "SKIPPED" ? "skip" : "fail")
	next
}

# protection_keys
/^test +[0-9]+ PASSED/ { sub(/ PASSED/, ""); row($0, "ok"); next }

# memfd_test names a step when it begins, and aborts in it
program ~ /^memfd\// && /^memfd.*: / { row($0, "begun"); next }

# short_splice_read.sh
/^(ok|FAIL): / {
	text = $0
	sub(/: .*/, "", text)
	sub(/^[A-Za-z]+: /, "")
	row($0, word(text))
	next
}

# stress-ng: what has failed, what could not run, and in the end what has run
/^stress-ng: fail: / { failed[program, stressor($0)] = 1; next }
/^stress-ng: .*process \[[0-9]+\] \([a-z-]+\) terminated on signal: [0-9]+/ {
	text = $0
	sub(/^.*signal: /, "", text)
	sub(/^.*\] \(/, "")
	sub(/\).*/, "")
	row($0, "signal-" (text + 0))
	next
}
/^stress-ng: .*(skipping stressor|stressor will be skipped)/ { row(stressor($0), "skip"); next }
/^stress-ng: metrc: \[[0-9]+\] [a-z-]+ +[0-9]+ +[0-9.]+ +[0-9.]+ / {
	row(stressor($0), (program, stressor($0)) in failed ? "fail" : "ok")
	next
}

# fio
/^[^ ]+: \(groupid=[0-9]+, jobs=[0-9]+\): err= *[0-9]+/ {
	text = $0
	sub(/^.*err= */, "", text)
	sub(/: .*/, "")
	row($0, text + 0 ? "error-" (text + 0) : "ok")
	next
}

# SPDX-License-Identifier: GPL-2.0
# One program's TAP, indented below a result line of its own. Whatever is wrong with the
# program as a whole (rc, plan, kernel log) becomes one more result, so that counting the
# indented results counts everything. Variables: name, number, rc, secs, took, dirt.

function result_line() { return $0 ~ /^(not )?ok( |$)/ }

/^(TAP|KTAP) version/ { print "  KTAP version 1"; next }
/^1\.\.[0-9]+/ {
	planned = substr($0, 4) + 0
	plan = 1
	if (planned == 0)
		whole_skip = /# *SKIP/ ? $0 : ""
	sub(/^1\.\.0 *# *SKIP */, "", whole_skip)
	print "  " $0
	next
}
result_line() {
	seen++
	if (/^not ok/) bad++
	# "ok 3 # SKIP why" has no name of its own
	line = $0
	if (line !~ /# *SKIP/) good += line ~ /^ok/
	else skipped++
	print "  " line
	next
}
/^Bail out!/ { bail = $0 }
/^#/ { print "  " $0; next }
{ print "  # " $0 }

function fault(why) {
	seen++
	bad++
	printf "  not ok %d %s: %s\n", seen, name, why
}

END {
	if (plan && planned == 0 && rc == 4) {
		seen++
		skipped++
		printf "  ok %d %s # SKIP %s\n", seen, name, whole_skip
	} else if (rc == 124 || rc == 137)
		fault("no end after " secs " s")
	else if (rc > 128)
		fault("killed by signal " rc - 128)
	else if (bail)
		fault(bail)
	else if (!plan)
		fault("no plan, exit status " rc)
	else if (planned != seen)
		fault("planned " planned " results, gave " seen + 0)
	else if (rc != 0 && rc != 4 && !bad)
		fault("exit status " rc " with no failed result")
	if (dirt != "") {
		fault("dirty kernel log")
		gsub(/\n/, "\n  # ", dirt)
		print "  # " dirt
	}
	printf "%s %d %s%s # %s s\n", bad ? "not ok" : "ok", number, name, \
		(!bad && skipped && !good) ? " # SKIP" : "", took
	exit bad ? 1 : 0
}

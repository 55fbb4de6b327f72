// SPDX-License-Identifier: GPL-2.0
/*
 * The oracle: many writers by all routes at once, a keeper that protects and releases
 * at random, the memory manager at work, and a model that knows what may be in the
 * files at any time (model.h).
 *
 * With options it is one run. Without, it is a test program: a run of some seconds over
 * each kind of file finds nothing; on a kernel that can leave protections out, one at a
 * time, a run without each of them finds what passes; and what the switches of a kernel
 * do not bring about, a run finds that does it itself.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../ptshare/common/sharing.h"
#include "../regress/common/switches.h"
#include "../routes/common/memory.h"
#include "background.h"
#include "fault.h"
#include "keeper.h"
#include "leaveout.h"
#include "route.h"

#define EXIT_FAILED	1
#define EXIT_USAGE	2
#define EXIT_SKIPPED	4
#define NR_BACKGROUND	2
#define END_MS		120000
#define REPORT_MS	10000

static void usage(FILE *out)
{
	fputs("Usage: oracle [--seconds=N] [--seed=N] [--file=KIND|PATH] [--writers=N]\n"
	      "              [--routes=NAME,...] [--without=NAME] [--with=NAME] [--shared]\n"
	      "              [--directories] [--no-background] [--verbose]\n"
	      "\n"
	      "Without options: all tests, as TAP. Else one run:\n"
	      "  --file           memfd, tmpfs, shm, anonymous, ext4, xfs, hugetlb, or where to make\n"
	      "                   two files (default memfd)\n"
	      "  --routes         only routes whose names begin like these\n"
	      "  --without        leaves a protection out, and expects an escape\n"
	      "  --with           does something wrong itself, and expects to find that\n"
	      "  --shared         page tables are shared by all who map a file, without being asked to\n"
	      "  --directories    the same for a GiB at a time, which PROTECT can fence; by routes that\n"
	      "                   leave the mappings whole, if --routes does not say others\n"
	      "  --no-background  without reclaim, migration and the like\n"
	      "  --verbose        tells how often each route was taken\n"
	      "  --list           what can be named\n"
	      "\n"
	      "Status: 0 as expected, 1 not so, 2 wrong use, 4 not possible on this system.\n", out);
}

static void list_names(void)
{
	const struct route *r;

	for (const struct file_choice *c = file_choices; c->name; c++)
		printf("--file=%s\n", c->name);
	for (const struct leave_out *l = leave_outs; l->name; l++)
		printf("--%s=%s\n", l->fault ? "with" : "without", l->name);
	for (unsigned int i = 0; (r = route_number(i)); i++)
		printf("--routes=%s\n", r->name);
}

/* --- processes --- */

static struct seat *seat_fork(struct run *run, bool writes, const char *role, int number)
{
	struct seat *seat = &run->seat[run->nr_seats++];
	pid_t pid;

	seat->writes = writes;
	seat->doing = "start";
	snprintf(seat->role, sizeof(seat->role), "%s %d", role, number);
	pid = fork_child();
	if (!pid)
		return seat;
	seat->pid = pid;
	return NULL;
}

static void leave(void)
{
	fflush(stdout);
	_exit(0);
}

static void start_processes(struct run *run)
{
	struct seat *seat;

	for (unsigned int i = 0; i < run->options.writers; i++)
		if ((seat = seat_fork(run, true, "writer", i))) {
			writer_run(run, seat, i);
			leave();
		}
	for (unsigned int i = 0; run->choice->resizes && !run->options.alone && i < FILES; i++)
		if ((seat = seat_fork(run, true, "tail", i))) {
			tail_run(run, seat, i);
			leave();
		}
	if ((!run->options.alone || run->cuts) && (seat = seat_fork(run, false, "pair", 0))) {
		cut_run(run, seat);
		leave();
	}
	for (unsigned int i = 0; run->options.background && i < NR_BACKGROUND; i++)
		if ((seat = seat_fork(run, false, "background", i))) {
			background_run(run, seat, i);
			leave();
		}
}

/* Processes that are still there. */
static unsigned int reap(struct run *run)
{
	struct failure f = { .kind = BROKEN };
	unsigned int left = 0;
	int status;

	for (unsigned int i = 0; i < run->nr_seats; i++) {
		struct seat *seat = &run->seat[i];

		if (seat->ended || waitpid(seat->pid, &status, WNOHANG) != seat->pid) {
			left += !seat->ended;
			continue;
		}
		seat->ended = true;
		if (run->stop && !status)
			continue;
		snprintf(f.who, sizeof(f.who), "%s", seat->role);
		snprintf(f.route, sizeof(f.route), "%s", seat->doing);
		snprintf(f.text, sizeof(f.text), "ended with status %#x", status);
		f.file = seat->file;
		f.offset = seat->at;
		fail(run, &f);
	}
	return left;
}

static void print_file_of(pid_t pid, const char *name)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		printf("#     %s%s", line, strchr(line, '\n') ? "" : "\n");
	if (f)
		fclose(f);
}

static void report_stuck(struct run *run)
{
	struct failure f = { .kind = STUCK };

	for (unsigned int i = 0; i < run->nr_seats; i++) {
		struct seat *seat = &run->seat[i];

		if (seat->ended)
			continue;
		snprintf(f.who, sizeof(f.who), "%s, process %d", seat->role, seat->pid);
		snprintf(f.route, sizeof(f.route), "%s", seat->doing);
		f.file = seat->file;
		f.offset = seat->at;
		fail(run, &f);
		printf("# %s does not end: %s, file %u, offset %#lx\n", f.who, f.route, f.file,
		       f.offset);
		print_file_of(seat->pid, "wchan");
		print_file_of(seat->pid, "stack");
		kill(seat->pid, SIGKILL);
	}
}

static void end_processes(struct run *run, struct keeper *keeper)
{
	uint64_t end = now_ns() + END_MS / run->hurry * 1000000ULL;

	run->stop = true;
	run->cut += 2;
	word_wake(&run->cut);
	do {
		keeper_release_all(keeper);
	} while (reap(run) && now_ns() < end);
	if (reap(run))
		report_stuck(run);
}

/* --- the files in the end --- */

/* The page's words that are not as they should be: how many, and the first. */
static void describe_content(struct run *run, unsigned int file, uint64_t offset, char *text,
			     size_t size)
{
	uint64_t at = offset / page_size() * page_size(), is[512] = { 0 }, want[512] = { 0 };
	size_t length = run->size[file] - at < sizeof(is) ? run->size[file] - at : sizeof(is);
	unsigned int nr = 0, first = 0;

	model_read(run, file, at, length, (unsigned char *)is, NULL);
	memcpy(want, run->shadow[file] + at, length);
	for (unsigned int i = 0; i < ARRAY_LEN(is); i++)
		if (is[i] != want[i] && !nr++)
			first = i;
	snprintf(text, size, "%u words of the page, the first is %#lx, not %#lx", nr, is[first],
		 want[first]);
}

static void compare(struct run *run, unsigned int file, const char *when)
{
	struct failure f = { .kind = LOST, .file = file, .who = "nobody knows who" };
	int64_t offset = model_difference(run, file, 0, run->size[file], NULL);
	struct stat stat_of;

	if (fstat(run->file[file].fd, &stat_of))
		die("fstat");
	if (offset < 0 && (uint64_t)stat_of.st_size == run->size[file])
		return;
	f.offset = offset < 0 ? (uint64_t)stat_of.st_size : (uint64_t)offset;
	snprintf(f.route, sizeof(f.route), "%s", when);
	if (offset < 0)
		snprintf(f.text, sizeof(f.text), "the file ends there, not at %#lx",
			 run->size[file]);
	else
		describe_content(run, file, offset, f.text, sizeof(f.text));
	fail(run, &f);
}

static bool can_leave_memory(const struct run *run)
{
	return run->choice->on_disk || (!run->choice->unit && have_swap());
}

static size_t pages_in_memory(char *map, size_t pages)
{
	unsigned char in[MAX_PAGES];
	size_t nr = 0;

	if (mincore(map, pages * page_size(), in))
		die("mincore");
	for (size_t i = 0; i < pages; i++)
		nr += in[i] & 1;
	return nr;
}

/* To swap, by way of entries, or to the disk: not if it is mapped anywhere else. */
static size_t put_out(struct run *run, unsigned int file, char *map, size_t pages)
{
	if (run->choice->on_disk) {
		fsync(run->file[file].fd);
		write_text("/proc/sys/vm/drop_caches", "1");
	} else {
		madvise(map, pages * page_size(), MADV_POPULATE_READ);
		madvise(map, pages * page_size(), MADV_PAGEOUT);
	}
	return pages_in_memory(map, pages);
}

static void await_out(struct run *run, unsigned int file)
{
	struct failure f = { .kind = BROKEN, .file = file, .who = "memory", .route = "in the end" };
	size_t pages = (run->size[file] + page_size() - 1) / page_size(), stay;
	char *map = map_aligned(run->file[file].fd, pages * page_size());
	/* Not so its holes, nor what has left with the other file. */
	size_t there = pages_in_memory(map, pages);

	/* A child of a writer that has ended may be there still. */
	if (!WAIT_FOR(!(stay = put_out(run, file, map, pages)) || stay < there)) {
		snprintf(f.text, sizeof(f.text), "none of %zu pages leaves memory", there);
		fail(run, &f);
	}
	printf("# file %u: %zu of %zu pages stay in memory\n", file, stay, there);
	munmap(map, pages * page_size());
}

/* It goes to swap, or to the disk, and comes back. */
static void compare_after_writeback(struct run *run, struct keeper *keeper, unsigned int file)
{
	munmap(run->file[file].map, run->file[file].size);
	keeper_unmap(keeper, file);
	if (can_leave_memory(run))
		await_out(run, file);
	else
		printf("# file %u stays in memory: there is nowhere to put it\n", file);
	fault_at_end(run, file);
	compare(run, file, "in the end, after writeback");
}

/* --- reports --- */

static uint64_t sum_of(const struct run *run, size_t counter)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < MAX_ROUTES; i++)
		sum += *(const _Atomic uint64_t *)((const char *)&run->tally[i] + counter);
	return sum;
}

#define SUM(run, counter) sum_of(run, offsetof(struct tally, counter))

static void report_progress(const struct run *run, unsigned int seconds)
{
	printf("# %3u s: %u rounds; %lu writes, %lu of them waited, %lu refused, %lu in part\n",
	       seconds, run->round, SUM(run, wrote), SUM(run, waited), SUM(run, refused),
	       SUM(run, torn));
	fflush(stdout);
}

static void report_routes(const struct run *run)
{
	const struct route *r;

	printf("# %-22s %9s %9s %9s %9s %9s %9s\n", "route", "wrote", "waited", "refused",
	       "in part", "skipped", "us each");
	for (unsigned int i = 0; (r = route_number(i)); i++) {
		const struct tally *t = &run->tally[i];

		printf("# %-22s %9lu %9lu %9lu %9lu %9lu %9lu\n", r->name, t->wrote, t->waited,
		       t->refused, t->torn, t->skipped,
		       t->ns / 1000 / (t->wrote + t->refused + t->torn + t->skipped + 1));
	}
	for (unsigned int i = 0; i < run->nr_seats; i++)
		printf("# %-22s %9lu turns\n", run->seat[i].role, run->seat[i].turns);
}

static void report_failure(const struct run *run)
{
	const struct failure *f = &run->failure;
	char owner[60];

	describe_owner(run, f->offset, owner, sizeof(owner));
	printf("# FOUND: %s\n"
	       "#   %s, %s: %s\n"
	       "#   file %u, page %lu, offset %#lx (%s), round %u\n"
	       "#   again: --seed=%#lx --file=%s\n",
	       failure_names[f->kind], f->who, f->route, f->text, f->file, f->offset / run->unit,
	       f->offset, owner, f->round, run->options.seed, run->options.file);
}

/* --- one run --- */

static void keep(struct run *run, struct keeper *keeper)
{
	uint64_t start = now_ns(), end = start + run->options.seconds * 1000000000ULL;
	uint64_t report = start + REPORT_MS * 1000000ULL, now;

	while (!run->stop && (now = now_ns()) < end) {
		keeper_step(keeper);
		reap(run);
		if (now < report)
			continue;
		report_progress(run, (now - start) / 1000000000);
		report += REPORT_MS * 1000000ULL;
	}
	report_progress(run, (now_ns() - start) / 1000000000);
}

static int verdict(const struct run *run, const struct leave_out *l)
{
	enum failure_kind kind = run->failed ? run->failure.kind : FAILED_NOT;

	if (run->failed)
		report_failure(run);
	if (!l)
		return run->failed ? EXIT_FAILED : 0;
	if (leave_out_finds(l, kind))
		return 0;
	printf("# %s %s %s\n", run->failed ? "not what was to be found" : "nothing was found",
	       l->fault ? "with" : "without", l->name);
	return EXIT_FAILED;
}

static void prefer(struct options *o, const struct leave_out *l)
{
	if (l->routes && !o->routes)
		o->routes = l->routes;
	if (l->writers)
		o->writers = l->writers;
	if (l->directories)
		o->directories = true;
	if (l->seconds)
		o->seconds = l->seconds;
	if (l->quiet)
		o->background = false;
	o->alone = l->alone;
}

/* Routes that cut no mapping in two, after which it would be shared by units. */
static const char whole_routes[] =
	"add,call,memory,pages-,store-read-first,store-discarded,store-moved,store-populated,"
	"store-paged-out,store-wild,store-new-table,store-child";

/* The run's files are mapped at this place, and shared as the options say. */
static bool shares(const struct run *run)
{
	for (unsigned int f = 0; run->options.directories && f < FILES; f++)
		if (!is_shared(run->file[f].map, run->file[f].size))
			return false;
	return true;
}

/* Of a run by directories, since it began. */
static void look_for_fences(struct run *run)
{
	struct failure f = { .kind = BROKEN, .who = "keeper", .route = "PROTECT" };
	unsigned int fences = fences_seen();

	printf("# %u PROTECTs have fenced something\n", fences);
	snprintf(f.text, sizeof(f.text), "none has fenced anything");
	if (!fences && !run->failed)
		fail(run, &f);
}

static void prefer_in_run(struct run *run, const struct leave_out *l)
{
	if (l->wild_size && !run->choice->unit)
		run->wild_size = l->wild_size;
	run->wild_tables = l->wild_tables;
	run->wild_way = l->wild_way;
	run->calm = l->calm;
	run->second = l->second;
	run->cuts = l->cuts;
	run->fault = l->fault;
	if (l->hurry)
		run->hurry = l->hurry;
}

static int run_once(struct options *o, const struct leave_out *l)
{
	const char *impossible = l ? leave_out_impossible(l) : NULL;
	const char *sharing = sharing_mode(), *wanted = sharing;
	struct keeper *keeper;
	struct run *run;

	printf("# seed %#lx, %u s, file %s%s%s\n", o->seed, o->seconds, o->file,
	       !l ? "" : l->fault ? ", with " : ", without ", l ? l->name : "");
	if (impossible) {
		printf("# %s\n", impossible);
		return EXIT_SKIPPED;
	}
	if ((o->shared || o->directories) && !sharing) {
		printf("# no shared page tables\n");
		return EXIT_SKIPPED;
	}
	if (switches_present())
		switches_reset();
	if (!o->background)
		background_undo();
	else if (!background_prepare())
		printf("# no cgroup for reclaim\n");
	if (l && l->hints)
		background_hints();
	/* Here, not by several writers at once. */
	if (!disk_mount(FILE_EXT4))
		printf("# no ext4 for direct I/O\n");
	if (l && l->folio_kb && !set_shmem_folios(l->folio_kb, "always")) {
		printf("# no folios of %u kB\n", l->folio_kb);
		return EXIT_SKIPPED;
	}
	/* What is left out is met by mappings that have page tables of their own. */
	if (o->shared || o->directories)
		wanted = "always";
	else if (sharing && l && !l->fault && !strcmp(sharing, "always"))
		wanted = "madvise";
	if (wanted != sharing)
		sharing_set(wanted);
	run = run_make(o);
	if (!run) {
		printf("# no file of kind %s on this system\n", o->file);
		if (wanted != sharing)
			sharing_set(sharing);
		return EXIT_SKIPPED;
	}
	if (!shares(run)) {
		printf("# page tables of %s are not shared\n", o->file);
		sharing_set(sharing);
		return EXIT_SKIPPED;
	}
	if (l)
		prefer_in_run(run, l);
	if (o->directories)
		fences_watch();
	start_processes(run);
	/* Here, so that no other process keeps the context open. */
	keeper = keeper_make(run);
	/*
	 * The keeper first, so that much is protected and released in a second. All
	 * others are equal: who is put off may hold a lock that the keeper waits for.
	 */
	setpriority(PRIO_PROCESS, 0, -10);
	if (l)
		leave_out_begin(l);
	keep(run, keeper);
	end_processes(run, keeper);
	leave_out_end();
	if (o->directories)
		look_for_fences(run);
	if (wanted != sharing)
		sharing_set(sharing);
	if (l && l->folio_kb)
		set_shmem_folios(l->folio_kb, "never");
	for (unsigned int f = 0; f < FILES && !run->failed; f++)
		compare(run, f, "in the end");
	for (unsigned int f = 0; f < FILES && !run->failed; f++)
		compare_after_writeback(run, keeper, f);
	background_undo();
	keeper_report(keeper);
	if (o->verbose)
		report_routes(run);
	return verdict(run, l);
}

/* --- all tests --- */

#define ALONE	"nothing_escapes_on"
#define SHARED	"nothing_escapes_by_shared_tables_on"
#define FENCED	"nothing_escapes_by_directories_on"

static const struct {
	const char *file;
	const char *seconds;
	const char *what;
	const char *shared;	/* one more argument */
} clean_runs[] = {
	{ "memfd", "8", ALONE, NULL }, { "tmpfs", "6", ALONE, NULL },
	{ "shm", "3", ALONE, NULL }, { "ext4", "4", ALONE, NULL },
	{ "xfs", "4", ALONE, NULL }, { "hugetlb", "5", ALONE, NULL },
	{ "memfd", "6", SHARED, "--shared" }, { "shm", "3", SHARED, "--shared" },
	{ "memfd", "6", FENCED, "--directories" }, { "shm", "3", FENCED, "--directories" },
};

/* Once a run has ended, nothing is left of what it shared. */
static bool shared_by_nobody(long hosts, long guests)
{
	if (!sharing_mode() ||
	    WAIT_FOR(sharing_count("hosts") <= hosts && sharing_count("guests") <= guests))
		return true;
	printf("# %ld hosts and %ld guests are left, of %ld and %ld\n", sharing_count("hosts"),
	       sharing_count("guests"), hosts, guests);
	return false;
}

/* Most take a few: until something is found. */
#define WITHOUT_SECONDS "120"

static void print_indented(int from)
{
	FILE *in = fdopen(from, "r");
	char line[512];

	while (in && fgets(line, sizeof(line), in)) {
		fputs(line[0] == '#' ? "" : "# ", stdout);
		fputs(line, stdout);
		fflush(stdout);
	}
	if (in)
		fclose(in);
}

static int run_again(char *const args[])
{
	int ends[2], status;
	pid_t pid;

	if (pipe(ends))
		die("pipe");
	pid = fork_child();
	if (!pid) {
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		close(ends[0]);
		close(ends[1]);
		execv("/proc/self/exe", args);
		_exit(EXIT_USAGE);
	}
	close(ends[1]);
	print_indented(ends[0]);
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_USAGE;
}

static int clean_run(char *const args[])
{
	const bool possible = sharing_mode();
	long hosts = possible ? sharing_count("hosts") : 0;
	long guests = possible ? sharing_count("guests") : 0;
	int status = run_again(args);

	return shared_by_nobody(hosts, guests) ? status : EXIT_FAILED;
}

static bool result(unsigned int number, int status, const char *what, const char *which)
{
	bool good = !status || status == EXIT_SKIPPED;

	printf("%sok %u %s_%s%s\n", good ? "" : "not ", number, what, which,
	       status == EXIT_SKIPPED ? " # SKIP not possible on this system" : "");
	fflush(stdout);
	return good;
}

static int all_tests(uint64_t seed)
{
	char seed_text[40], file_text[40], seconds_text[40], without_text[60];
	char *args[] = { "oracle", seed_text, seconds_text, file_text, without_text, NULL };
	unsigned int nr = 0, bad = 0;

	snprintf(seed_text, sizeof(seed_text), "--seed=%#lx", seed);
	for (const struct leave_out *l = leave_outs; l->name; l++)
		nr += !l->by_name_only;
	printf("TAP version 13\n1..%zu\n# seed %#lx\n", ARRAY_LEN(clean_runs) + nr, seed);
	fflush(stdout);
	nr = 0;
	for (size_t i = 0; i < ARRAY_LEN(clean_runs); i++) {
		snprintf(seconds_text, sizeof(seconds_text), "--seconds=%s", clean_runs[i].seconds);
		snprintf(file_text, sizeof(file_text), "--file=%s", clean_runs[i].file);
		snprintf(without_text, sizeof(without_text), "%s",
			 clean_runs[i].shared ? clean_runs[i].shared : "");
		args[4] = clean_runs[i].shared ? without_text : NULL;
		bad += !result(++nr, clean_run(args), clean_runs[i].what, clean_runs[i].file);
	}
	snprintf(seconds_text, sizeof(seconds_text), "--seconds=" WITHOUT_SECONDS);
	for (const struct leave_out *l = leave_outs; l->name; l++) {
		if (l->by_name_only)
			continue;
		snprintf(file_text, sizeof(file_text), "--file=%s", l->file ? l->file : "memfd");
		snprintf(without_text, sizeof(without_text), "--%s=%s",
			 l->fault ? "with" : "without", l->name);
		args[4] = without_text;
		bad += !result(++nr, run_again(args),
			       l->fault ? "fault_is_found" : "escape_is_found_without", l->name);
	}
	return bad ? EXIT_FAILED : 0;
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 0);

	if (*end || !*text) {
		fprintf(stderr, "oracle: '%s' is no number\n", text);
		exit(EXIT_USAGE);
	}
	return value;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'x' },
		{ "file", required_argument, NULL, 'f' },
		{ "writers", required_argument, NULL, 'w' },
		{ "routes", required_argument, NULL, 'r' },
		{ "without", required_argument, NULL, 'o' },
		{ "with", required_argument, NULL, 'o' },
		{ "shared", no_argument, NULL, 'p' },
		{ "directories", no_argument, NULL, 'd' },
		{ "no-background", no_argument, NULL, 'b' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct options o = { .seconds = 30, .writers = 8, .background = true };
	const struct leave_out *l = NULL;
	int c;

	if (getrandom(&o.seed, sizeof(o.seed), 0) != sizeof(o.seed))
		die("getrandom");
	while ((c = getopt_long(argc, argv, "h", long_options, NULL)) >= 0) {
		switch (c) {
		case 's': o.seconds = number(optarg); break;
		case 'x': o.seed = number(optarg); break;
		case 'f': o.file = optarg; break;
		case 'w': o.writers = number(optarg); break;
		case 'r': o.routes = optarg; break;
		case 'o': o.without = optarg; break;
		case 'p': o.shared = true; break;
		case 'd': o.directories = true; break;
		case 'b': o.background = false; break;
		case 'v': o.verbose = true; break;
		case 'l': list_names(); return 0;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return EXIT_USAGE;
		}
	}
	if (argc == 1)
		return all_tests(o.seed);
	if (o.without) {
		l = leave_out_named(o.without);
		if (!l) {
			fprintf(stderr, "oracle: no '%s' to do with or without; --list\n", o.without);
			return EXIT_USAGE;
		}
		prefer(&o, l);
		if (!o.file)
			o.file = l->file;
	}
	if (!o.file)
		o.file = "memfd";
	if (o.directories && !o.routes)
		o.routes = whole_routes;
	if (optind < argc || !o.writers || o.writers > MAX_WRITERS) {
		usage(stderr);
		return EXIT_USAGE;
	}
	return run_once(&o, l);
}

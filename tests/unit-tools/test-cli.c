// SPDX-License-Identifier: GPL-2.0
/*
 * The command's logic without a kernel: sets, ranges, heat, writers, words.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heat.h"
#include "number.h"
#include "output.h"
#include "pageset.h"
#include "ranges.h"
#include "tap.h"
#include "text.h"
#include "writers.h"

#define NR_PAGES	20000
#define NR_FILES	3

static uint64_t state = 88172645463325252ULL;

static uint64_t below(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % n;
}

static bool pageset_model(void)
{
	static bool model[NR_FILES][NR_PAGES];
	struct pageset set = {};
	uint64_t count = 0;
	int round;

	for (round = 0; round < 3000; round++) {
		uint32_t file = below(NR_FILES);
		uint64_t page = below(NR_PAGES), nr = 1 + below(round % 50 ? 20 : 9000);
		uint64_t i, new = 0;

		if (page + nr > NR_PAGES)
			nr = NR_PAGES - page;
		for (i = page; i < page + nr; i++) {
			new += !model[file][i];
			model[file][i] = true;
		}
		count += new;
		CHECK(pageset_add(&set, file, page, nr) == new);
		CHECK(set.count == count);
	}
	pageset_free(&set);
	CHECK(!set.count && !set.room);
	return true;
}

static bool pageset_far(void)
{
	struct pageset set = {};
	int i;

	for (i = 0; i < 1000; i++)
		CHECK(pageset_add(&set, 0, (uint64_t)i << 40, 1) == 1);
	CHECK(pageset_add(&set, 0, 999ULL << 40, 1) == 0);
	CHECK(pageset_add(&set, 0, 5, 0) == 0);
	CHECK(set.count == 1000);
	pageset_free(&set);
	return true;
}

static bool ranges_model(void)
{
	static unsigned char model[NR_FILES][300];
	struct ranges ranges = {};
	size_t i, at;
	int round;

	for (round = 0; round < 200; round++) {
		memset(model, 0, sizeof(model));
		ranges.nr = 0;
		for (i = 0; i < below(60); i++) {
			uint32_t file = below(NR_FILES);
			uint64_t page = below(250), nr = 1 + below(10);

			memset(&model[file][page], 1, nr);
			CHECK(!ranges_add(&ranges, file, page * 4096, nr * 4096));
		}
		ranges_join(&ranges);
		for (i = 0; i < ranges.nr; i++) {
			const struct pgprotect_range *range = &ranges.list[i];

			/* Maximal, so that the model has a gap before and after. */
			at = range->offset / 4096;
			CHECK(!at || !model[range->file][at - 1]);
			for (; at < (range->offset + range->length) / 4096; at++) {
				CHECK(model[range->file][at]);
				model[range->file][at] = 0;
			}
			CHECK(!model[range->file][at]);
		}
		CHECK(!memchr(model, 1, sizeof(model)));
	}
	ranges_free(&ranges);
	return true;
}

static bool ranges_to_eof(void)
{
	struct ranges ranges = {};

	CHECK(!ranges_add(&ranges, 1, 8192, PGPROTECT_TO_EOF));
	CHECK(!ranges_add(&ranges, 1, 1 << 20, 4096));
	CHECK(!ranges_add(&ranges, 1, 4096, 4096));
	ranges_join(&ranges);
	CHECK(ranges.nr == 1 && ranges.list[0].offset == 4096);
	CHECK(ranges.list[0].length == PGPROTECT_TO_EOF);
	ranges_free(&ranges);
	return true;
}

/* Draws into a string that the caller frees. */
static char *draw(const struct heat *heat, unsigned int width, bool utf8)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	heat_draw(out, heat, width, 4096, utf8);
	fclose(out);
	return text;
}

static bool heat_small(void)
{
	static struct heat heat;
	char *text;
	int i;

	heat_init(&heat, 4);
	for (i = 0; i < 200; i++)
		heat_add(&heat, 1, 1);
	heat_add(&heat, 3, 1);
	text = draw(&heat, 80, false);
	CHECK(strstr(text, "     0  .#.:\n"));
	CHECK(strstr(text, "4 KiB a mark"));
	CHECK(strstr(text, "up to 200 writes"));
	free(text);
	text = draw(&heat, 80, true);
	CHECK(strstr(text, "·█·▁\n"));
	free(text);
	return true;
}

static bool heat_large(void)
{
	static struct heat heat;
	uint64_t pages = 1ULL << 40;
	char *text, *line, *save;
	int rows = 0;

	heat_init(&heat, pages);
	heat_add(&heat, 0, pages);
	heat_add(&heat, pages + 5, 1);
	heat_add(&heat, UINT64_MAX, 1);
	heat_add(&heat, pages - 1, UINT64_MAX);
	CHECK(heat.buckets[0] == 1 && heat.buckets[HEAT_BUCKETS - 1] == 4);
	text = draw(&heat, 40, false);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		CHECK(rows == 8 || strlen(line) <= 40);
		rows++;
	}
	CHECK(rows == 9);
	free(text);
	return true;
}

static bool heat_empty(void)
{
	static struct heat heat;
	char *text;

	heat_init(&heat, 0);
	heat_add(&heat, 7, 0);
	text = draw(&heat, 0, false);
	CHECK(strstr(text, "0  .\n"));
	free(text);
	return true;
}

static bool writers_totals(void)
{
	struct writers writers = {};
	struct pgprotect_event event = {
		.offset = 8192, .length = 4096, .pid = 5, .origin = PGPROTECT_ORIGIN_STORE,
	};
	int i;

	for (i = 0; i < 3; i++)
		CHECK(!writers_add(&writers, &event, "one", 0, 4096));
	event.offset = 0;
	event.origin = 77;
	CHECK(!writers_add(&writers, &event, "one", 0, 4096));
	event.pid = 4;
	for (i = 0; i < 100; i++) {
		event.offset = i * 4096ULL;
		CHECK(!writers_add(&writers, &event, "a name that is too long", 1, 4096));
	}
	/* The same number, another name: another process. */
	CHECK(!writers_add(&writers, &event, "other", 1, 4096));
	writers_sort(&writers);
	CHECK(writers.nr == 3 && writers.events == 105);
	CHECK(writers.pages.count == 102);
	CHECK(writers.list[0].pid == 4 && writers.list[0].events == 100);
	CHECK(writers.list[0].pages.count == 100 && writers.list[0].end == 100 * 4096);
	CHECK(writers.list[1].pid == 5 && writers.list[1].events == 4);
	CHECK(writers.list[1].first == 0 && writers.list[1].end == 12288);
	CHECK(writers.list[1].origins[PGPROTECT_ORIGIN_STORE] == 3);
	CHECK(writers.list[1].origins[0] == 1);
	writers_free(&writers);
	return true;
}

/* A reader that does not read costs lines, not time; one who left, nothing. */
static bool output_slow_reader(void)
{
	struct output *output;
	size_t want, size = 0;
	int ends[2], i;
	char text[4096];
	ssize_t got;

	CHECK(!pipe(ends));
	output = output_open(ends[1], 10000);
	CHECK(output);
	for (i = 0; i < 100000; i++)
		fprintf(output_stream(output), "a line, and its number is %06d\n", i);
	CHECK(output_dropped(output) > 0 && output_dropped(output) < 99000);
	CHECK(!output_error(output));

	output_patient(output);
	want = (100000 - output_dropped(output)) * 33;
	while (size < want) {
		got = read(ends[0], text, sizeof(text));
		CHECK(got > 0);
		size += got;
	}
	CHECK(size == want);
	close(ends[0]);
	fprintf(output_stream(output), "last\n");
	CHECK(output_close(output) == -EPIPE);
	close(ends[1]);
	return true;
}

static bool numbers(void)
{
	uint64_t value, end;
	int64_t ns;

	CHECK(parse_count("10", 1, 10, &value) && value == 10);
	CHECK(!parse_count("11", 1, 10, &value));
	CHECK(!parse_count("0", 1, 10, &value));
	CHECK(!parse_count("-1", 0, UINT64_MAX, &value));
	CHECK(!parse_count(" 1", 0, 10, &value));
	CHECK(!parse_count("1x", 0, 10, &value));
	CHECK(!parse_count("", 0, 10, &value));
	CHECK(!parse_count("99999999999999999999", 0, UINT64_MAX, &value));

	CHECK(parse_seconds("1.5", &ns) && ns == 1500000000);
	CHECK(parse_seconds(".25", &ns) && ns == 250000000);
	CHECK(!parse_seconds("0", &ns) && !parse_seconds("", &ns));
	CHECK(!parse_seconds("-1", &ns) && !parse_seconds("1e3", &ns));
	CHECK(!parse_seconds("nan", &ns) && !parse_seconds("inf", &ns));
	CHECK(!parse_seconds("1.2.3", &ns) && !parse_seconds(".", &ns));
	CHECK(!parse_seconds("99999999999", &ns));

	CHECK(parse_addresses("7f00-7FFF", &value, &end) && value == 0x7f00 && end == 0x7fff);
	CHECK(parse_addresses("0x1000-0x2000", &value, &end) && value == 0x1000);
	CHECK(!parse_addresses("2000-1000", &value, &end));
	CHECK(!parse_addresses("1000", &value, &end));
	CHECK(!parse_addresses("1000-", &value, &end));
	CHECK(!parse_addresses("1000--2000", &value, &end));
	CHECK(!parse_addresses("1000-2000x", &value, &end));
	CHECK(!parse_addresses("10000000000000000-20000000000000000", &value, &end));
	return true;
}

static bool cleaned_is(const char *text, const char *expected)
{
	char copy[64];

	strcpy(copy, text);
	text_clean(copy);
	return !strcmp(copy, expected);
}

static bool words(void)
{
	CHECK(cleaned_is("postgres: a b", "postgres: a b"));
	CHECK(cleaned_is("a\033[31mb\n\x7f", "a?[31mb??"));
	CHECK(cleaned_is("grüße €𝄞", "grüße €𝄞"));
	CHECK(cleaned_is("\xff" "a\xc3", "?a?"));		/* cut short */
	CHECK(cleaned_is("\xc0\xaf", "??"));			/* overlong */
	CHECK(cleaned_is("\xed\xa0\x80", "???"));		/* a surrogate */
	CHECK(cleaned_is("\xc2\x9b", "??"));			/* CSI of Latin-1 */
	CHECK(cleaned_is("\xf4\x90\x80\x80", "????"));
	return true;
}

static const struct tap_case cases[] = {
	{ "pageset_model", pageset_model },
	{ "pageset_far", pageset_far },
	{ "ranges_model", ranges_model },
	{ "ranges_to_eof", ranges_to_eof },
	{ "heat_small", heat_small },
	{ "heat_large", heat_large },
	{ "heat_empty", heat_empty },
	{ "writers_totals", writers_totals },
	{ "output_slow_reader", output_slow_reader },
	{ "numbers", numbers },
	{ "words", words },
	{}
};

int main(void)
{
	return tap_run(cases);
}

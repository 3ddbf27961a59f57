/* SPDX-License-Identifier: MIT */
#include "tools/fsck_report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/log.h"
#include "format/jsontext.h"
#include "tools/human.h"

#define FSCK_SCHEMA "veneer-fsck"
#define FSCK_SCHEMA_VERSION 1

void fsck_report_deinit(struct fsck_report *report)
{
	fsck_set_clear(&report->told);
	free(report->path);
	free(report->note);
}

/* ---- asking ---- */

/* The first letter of the answer; end of file is a no. */
static int fsck_report_read_answer(void)
{
	int first = getchar(), next = first;

	while (next != '\n' && next != EOF)
		next = getchar();
	return first;
}

static bool fsck_report_ask(struct fsck_report *report)
{
	for (;;) {
		fputs("[y/n/a] ", stdout);
		fflush(stdout);
		switch (fsck_report_read_answer()) {
		case 'a':
		case 'A':
			report->mode = FSCK_ALL;
			return true;
		case 'y':
		case 'Y':
			return true;
		case 'n':
		case 'N':
		case EOF:
			return false;
		default:
			fputs("yes, no, or all from here on? ", stdout);
		}
	}
}

static bool fsck_report_decide(struct fsck_report *report, const struct fsck_problem_info *info)
{
	switch (report->mode) {
	case FSCK_CHECK:
		return false;
	case FSCK_SAFE:
		return info->is_safe && !(info->by_lowers && report->lowers_differ);
	case FSCK_ALL:
		return true;
	case FSCK_ASK:
		return fsck_report_ask(report);
	}
	return false;
}

/* ---- telling ---- */

static void fsck_report_print(const struct fsck_report *report)
{
	const struct fsck_problem_info *info = fsck_problem_info(report->problem);

	human_print_name(stdout, report->path);
	printf(": %s", info->what);
	if (report->note) {
		fputs(" (", stdout);
		human_print_name(stdout, report->note);
		putchar(')');
	}
	printf(": %s? ", info->repair);
}

/* One finding a line: they are not kept, there may be a million. */
static void fsck_report_print_json(const struct fsck_report *report, bool is_repaired, int error)
{
	const struct fsck_problem_info *info = fsck_problem_info(report->problem);
	json_t *object = json_object();
	int r = jsontext_set(object, "path", report->path);

	if (r == 0)
		r = jsontext_set(object, "note", report->note);
	if (r == 0)
		r = json_object_update_new(
			object, json_pack("{s:s, s:s, s:s, s:b, s:s?}", "problem", info->id, "what",
					  info->what, "repair", info->repair, "repaired",
					  is_repaired, "error", error ? strerror(-error) : NULL));
	printf("%s\n    ", report->found > 1 ? "," : "");
	if (r < 0 || json_dumpf(object, stdout, JSON_COMPACT) < 0)
		log_error("%s: cannot be told as JSON", report->path);
	json_decref(object);
}

void fsck_report_begin(struct fsck_report *report, const char *upper)
{
	if (!report->as_json)
		return;
	json_t *head =
		json_pack("{s:s, s:i}", "schema", FSCK_SCHEMA, "version", FSCK_SCHEMA_VERSION);

	jsontext_set(head, "upper", upper);
	_cleanup_free_ char *text = json_dumps(head, JSON_COMPACT);

	/* The object stays open: its last brace comes with the closing line. */
	if (text)
		printf("%.*s, \"findings\": [", (int)strlen(text) - 1, text);
	json_decref(head);
}

bool fsck_report_find(struct fsck_report *report, enum fsck_problem problem, const char *path,
		      const char *note)
{
	uint64_t key = hash_bytes(path, strlen(path), (uint64_t)problem + 1);

	if (note)
		key = hash_bytes(note, strlen(note), key);
	if (fsck_set_has(&report->told, key))
		return false;
	report->key = key;
	free(report->path);
	free(report->note);
	report->problem = problem;
	report->path = strdup(path);
	report->note = note ? strdup(note) : NULL;
	report->found++;
	if (!report->as_json)
		fsck_report_print(report);
	bool repair = fsck_report_decide(report, fsck_problem_info(problem));

	if (!repair)
		fsck_set_add(&report->told, key);
	if (report->as_json && !repair)
		fsck_report_print_json(report, false, 0);
	else if (!report->as_json && report->mode != FSCK_ASK)
		puts(repair ? "yes" : "no");
	return repair;
}

void fsck_report_settle(struct fsck_report *report, int result)
{
	if (result == 0)
		report->repaired++;
	else
		fsck_set_add(&report->told, report->key);
	if (report->as_json) {
		fsck_report_print_json(report, result == 0, result);
	} else if (result < 0) {
		human_print_name(stdout, report->path);
		printf(": this did not work: %s\n", strerror(-result));
	}
}

void fsck_report_fail(struct fsck_report *report, const char *path, int error)
{
	uint64_t key = hash_bytes(path, strlen(path), 0);

	if (!fsck_set_add(&report->told, key))
		return;
	report->failed++;
	fflush(stdout);
	log_error("%s: cannot be checked: %s", path, strerror(-error));
}

void fsck_report_end(struct fsck_report *report, const char *upper)
{
	uint64_t left = report->found - report->repaired;

	if (report->as_json) {
		printf("%s],\n  \"objects\": %" PRIu64 ", \"found\": %" PRIu64
		       ", \"repaired\": %" PRIu64 ", \"left\": %" PRIu64 ", \"unchecked\": %" PRIu64
		       "}\n",
		       report->found ? "\n  " : "", report->objects, report->found,
		       report->repaired, left, report->failed);
		return;
	}
	human_print_name(stdout, upper);
	printf(": %" PRIu64 " objects", report->objects);
	if (report->found == 0)
		puts(report->failed ? ", no fault in what could be checked" : ", clean");
	else
		printf(", faults: %" PRIu64 " found, %" PRIu64 " repaired, %" PRIu64 " left\n",
		       report->found, report->repaired, left);
}

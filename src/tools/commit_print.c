/* SPDX-License-Identifier: MIT */
/* What a commit does and did, for people and for programs. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "format/jsontext.h"
#include "tools/commit.h"
#include "tools/human.h"

#define COMMIT_CONFLICTS_SHOWN 20

static const char *const commit_verbs[] = {
	[APPLY_ADD] = "add",   [APPLY_REPLACE] = "replace", [APPLY_CHANGE] = "change",
	[APPLY_MOVE] = "move", [APPLY_REMOVE] = "remove",   [APPLY_HIDE] = "hide",
	[APPLY_LINK] = "link",
};

void commit_report_deinit(struct commit_report *report)
{
	for (size_t i = 0; report->actions && i < report->action_count; i++) {
		free(report->actions[i].path);
		free(report->actions[i].from);
	}
	for (size_t i = 0; i < report->conflict_count; i++) {
		free(report->conflicts[i].path);
		free(report->conflicts[i].what);
	}
	free(report->actions);
	free(report->conflicts);
}

static int commit_compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int commit_report_settle(struct commit_report *report)
{
	size_t moved = 0, kept = 0;
	_cleanup_free_ char **from = calloc(report->counts[APPLY_MOVE] + 1, sizeof(*from));

	if (!from)
		return -ENOMEM;
	for (size_t i = 0; i < report->action_count; i++)
		if (report->actions[i].verb == APPLY_MOVE && report->actions[i].from)
			from[moved++] = report->actions[i].from;
	qsort(from, moved, sizeof(*from), commit_compare_names);
	for (size_t i = 0; i < report->action_count; i++) {
		struct commit_action *action = &report->actions[i];

		if (action->verb == APPLY_REMOVE &&
		    bsearch(&action->from, from, moved, sizeof(*from), commit_compare_names)) {
			report->counts[APPLY_REMOVE]--;
			free(action->path);
			free(action->from);
			continue;
		}
		report->actions[kept++] = *action;
	}
	report->action_count = kept;
	return 0;
}

/* ---- for people ---- */

void commit_print_actions(const struct commit_report *report)
{
	for (size_t i = 0; i < report->action_count; i++) {
		const struct commit_action *action = &report->actions[i];

		printf("%-8s", commit_verbs[action->verb]);
		if (action->verb == APPLY_MOVE && action->from) {
			human_print_name(stdout, action->from);
			fputs(" -> ", stdout);
		}
		human_print_name(stdout, action->path);
		putchar('\n');
	}
}

void commit_print_conflicts(const struct commit_report *report)
{
	size_t shown = MIN(report->conflict_count, (size_t)COMMIT_CONFLICTS_SHOWN);

	for (size_t i = 0; i < shown; i++) {
		fputs("veneer: ", stderr);
		human_print_name(stderr, report->conflicts[i].path);
		fprintf(stderr, " %s\n", report->conflicts[i].what);
	}
	if (shown < report->conflict_count)
		fprintf(stderr, "veneer: and %zu more, which --json names\n",
			report->conflict_count - shown);
}

void commit_print_summary(const struct commit_report *report, const struct commit_end *end)
{
	uint64_t total = 0;
	const char *separator = ": ";

	for (size_t i = 0; i < ARRAY_SIZE(report->counts); i++)
		total += report->counts[i];
	if (end->is_resumed) {
		printf("the unfinished commit into ");
		human_print_name(stdout, end->dest);
		if (end->is_dry)
			printf(" would be finished: %s\n", end->rest);
		else
			puts(" is finished");
		return;
	}
	printf("%" PRIu64 " change%s %s ", total, total == 1 ? "" : "s",
	       end->is_dry ? "would be committed into" : "committed into");
	human_print_name(stdout, end->dest);
	for (size_t i = 0; i < ARRAY_SIZE(report->counts); i++) {
		if (report->counts[i] == 0)
			continue;
		printf("%s%s %" PRIu64, separator, commit_verbs[i], report->counts[i]);
		separator = ", ";
	}
	putchar('\n');
}

/* ---- for programs ---- */

static json_t *commit_json_actions(const struct commit_report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < report->action_count; i++) {
		const struct commit_action *action = &report->actions[i];
		json_t *object = json_pack("{s:s, s:I}", "action", commit_verbs[action->verb],
					   "bytes", (json_int_t)action->bytes);
		int r = object ? jsontext_set(object, "path", action->path) : -ENOMEM;

		if (r == 0 && action->verb == APPLY_MOVE && action->from)
			r = jsontext_set(object, "from", action->from);
		if (r < 0 || json_array_append_new(array, object) < 0)
			return NULL;
	}
	return array;
}

static json_t *commit_json_conflicts(const struct commit_report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < report->conflict_count; i++) {
		json_t *object = json_pack("{s:s}", "reason", report->conflicts[i].what);

		if (!object || jsontext_set(object, "path", report->conflicts[i].path) < 0 ||
		    json_array_append_new(array, object) < 0)
			return NULL;
	}
	return array;
}

static json_t *commit_json_counts(const struct commit_report *report)
{
	json_t *object = json_object();

	for (size_t i = 0; object && i < ARRAY_SIZE(report->counts); i++)
		if (json_object_set_new(object, commit_verbs[i],
					json_integer((json_int_t)report->counts[i])) < 0)
			return NULL;
	return object;
}

int commit_print_json(const struct commit_report *report, const struct commit_end *end)
{
	json_t *all = json_pack("{s:s, s:i, s:b, s:b, s:b, s:o, s:o, s:o}", "schema",
				"veneer-commit", "version", 1, "dry_run", end->is_dry, "resumed",
				end->is_resumed, "done", end->is_done, "counts",
				commit_json_counts(report), "actions", commit_json_actions(report),
				"conflicts", commit_json_conflicts(report));
	int r = all ? jsontext_set(all, "layer", end->layer) : -ENOMEM;

	if (r == 0)
		r = jsontext_set(all, "destination", end->dest);
	if (r == 0 && json_dumpf(all, stdout, JSON_INDENT(2)) < 0)
		r = -EIO;
	putchar('\n');
	json_decref(all);
	return r;
}

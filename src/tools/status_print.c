/* SPDX-License-Identifier: MIT */
#include "tools/status_print.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "tools/human.h"

#define STATUS_MS_PER_S 1000

/* ---- members; a missing one is 0, "" or false ---- */

static uint64_t status_number(const json_t *object, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(object, key));

	return value > 0 ? (uint64_t)value : 0;
}

static const char *status_string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static void status_print_name(const json_t *object, const char *key)
{
	human_print_name(stdout, status_string(object, key));
}

static void status_print_label(const char *label)
{
	printf("  %-10s ", label);
}

/* ---- groups ---- */

static void status_print_head(const char *mount_point, const json_t *report)
{
	char uptime[HUMAN_MAX];

	human_print_name(stdout, mount_point);
	printf("  (veneer ");
	status_print_name(report, "program");
	printf(", process %llu, up %s)\n", (unsigned long long)status_number(report, "pid"),
	       human_duration(status_number(report, "uptime_ms") / STATUS_MS_PER_S, uptime));
}

static void status_print_layers(const json_t *report)
{
	const json_t *layer;
	size_t i;

	json_array_foreach(json_object_get(report, "layers"), i, layer)
	{
		status_print_label(status_string(layer, "kind"));
		status_print_name(layer, "path");
		putchar('\n');
	}
	if (json_is_string(json_object_get(report, "workdir"))) {
		status_print_label("work");
		status_print_name(report, "workdir");
		putchar('\n');
	}
}

/* Those with a value as name=value, those that are true by name. */
static void status_print_options(const json_t *report)
{
	const char *separator = "", *key;
	json_t *value;

	status_print_label("options");
	json_object_foreach((json_t *)json_object_get(report, "options"), key, value)
	{
		if (json_is_false(value) || json_is_null(value))
			continue;
		printf("%s%s", separator, key);
		if (json_is_string(value))
			printf("=%s", json_string_value(value));
		else if (json_is_number(value))
			printf("=%g", json_number_value(value));
		separator = ",";
	}
	putchar('\n');
}

static void status_print_commit(const json_t *report)
{
	if (!json_is_true(json_object_get(report, "unfinished_commit")))
		return;
	status_print_label("commit");
	puts("begun and not finished: nothing can be changed until veneer commit was run again");
}

/* A daemon that was started before this program was installed may not say why. */
static void status_print_why(const char *what, const char *name, const char *why)
{
	if (!*why)
		return;
	status_print_label("");
	printf("%s%s: %s\n", what, strcmp(name, "dev") ? name : "/dev/fuse", why);
}

static void status_print_transport(const json_t *report)
{
	const json_t *transport = json_object_get(report, "transport");
	const char *name = status_string(transport, "name");

	status_print_label("transport");
	printf("%s, protocol %s, data %s; %llu threads (at most %llu), %llu waiting; "
	       "%llu requests at work\n",
	       strcmp(name, "dev") ? name : "/dev/fuse", status_string(transport, "protocol"),
	       status_string(transport, "data_path"),
	       (unsigned long long)status_number(transport, "threads"),
	       (unsigned long long)status_number(transport, "threads_max"),
	       (unsigned long long)status_number(transport, "threads_waiting"),
	       (unsigned long long)status_number(transport, "requests_at_work"));
	status_print_why("", name, status_string(transport, "why"));
	status_print_why("data ", status_string(transport, "data_path"),
			 status_string(transport, "data_path_why"));
}

static void status_print_caches(const json_t *report)
{
	const json_t *caches = json_object_get(report, "caches");

	status_print_label("caches");
	printf("%llu of %llu nodes, %llu of %llu descriptors, %llu open directories, "
	       "%llu removed files in use\n",
	       (unsigned long long)status_number(caches, "nodes"),
	       (unsigned long long)status_number(caches, "nodes_max"),
	       (unsigned long long)status_number(caches, "descriptors"),
	       (unsigned long long)status_number(caches, "descriptors_max"),
	       (unsigned long long)status_number(caches, "open_directories"),
	       (unsigned long long)status_number(caches, "orphans"));
}

/* "1.2 GiB of 4.0 GiB (30 %), 850 MiB/s, 3 s left". */
static void status_print_progress(const json_t *copyup)
{
	uint64_t done = status_number(copyup, "done"), size = status_number(copyup, "size");
	uint64_t rate = status_number(copyup, "bytes_per_s");
	char text[HUMAN_MAX];

	printf("%s of ", human_size(done, text));
	printf("%s (%.0f %%), ", human_size(size, text), 100.0 * (double)done / (double)size);
	printf("%s/s", human_size(rate, text));
	if (!strcmp(status_string(copyup, "phase"), "finishing"))
		printf(", finishing");
	else if (rate > 0 && done < size)
		printf(", %s left", human_duration((size - done) / rate, text));
}

static void status_print_copyups(const json_t *report)
{
	const json_t *copyups = json_object_get(report, "copy_ups"), *copyup;
	char text[HUMAN_MAX];
	size_t i;

	status_print_label("copied up");
	printf("%llu objects, %s\n", (unsigned long long)status_number(copyups, "count"),
	       human_size(status_number(copyups, "bytes"), text));
	json_array_foreach(json_object_get(copyups, "running"), i, copyup)
	{
		status_print_label("copying");
		if (json_is_string(json_object_get(copyup, "path")))
			status_print_name(copyup, "path");
		else
			fputs("(a file without a name)", stdout);
		fputs("  ", stdout);
		if (status_number(copyup, "size"))
			status_print_progress(copyup);
		putchar('\n');
	}
}

static void status_print_requests(const json_t *report)
{
	const json_t *requests = json_object_get(report, "requests"), *kind;
	size_t i;

	if (json_array_size(requests) == 0)
		return;
	printf("  %-18s %10s %10s %10s %10s\n", "requests", "count", "p50", "p99", "data");
	json_array_foreach(requests, i, kind)
	{
		char p50[HUMAN_MAX], p99[HUMAN_MAX], size[HUMAN_MAX];
		uint64_t bytes = status_number(kind, "bytes");

		printf("    %-16s %10llu %10s %10s %10s\n", status_string(kind, "kind"),
		       (unsigned long long)status_number(kind, "count"),
		       human_latency(status_number(kind, "p50_ns"), p50),
		       human_latency(status_number(kind, "p99_ns"), p99),
		       bytes ? human_size(bytes, size) : "");
	}
}

void status_print(const char *mount_point, const json_t *report)
{
	status_print_head(mount_point, report);
	status_print_layers(report);
	status_print_options(report);
	status_print_commit(report);
	status_print_transport(report);
	status_print_caches(report);
	status_print_copyups(report);
	status_print_requests(report);
}

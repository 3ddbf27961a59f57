/* SPDX-License-Identifier: MIT */
/*
 * One JSON object for each group of facts.  jansson's functions that set a
 * member take the value over and fail on a NULL one, so what cannot be
 * allocated makes the member missing: report_add() notes it, and the whole
 * report fails.
 */
#include "daemon/report.h"

#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "base/util.h"
#include "format/jsontext.h"

#define REPORT_MS_PER_S 1000
#define REPORT_NS_PER_MS 1000000
#define REPORT_NS_PER_S 1e9
/* "major:minor", or a number in hexadecimal. */
#define REPORT_NUMBER_MAX 32

struct report_json {
	json_t *object; /* owned by whoever made it */
	bool *failed; /* of the whole report */
};

static const char *const report_redirects[] = {
	[CORE_REDIRECT_ON] = "on",
	[CORE_REDIRECT_FOLLOW] = "follow",
	[CORE_REDIRECT_NOFOLLOW] = "nofollow",
};

static const char *const report_fsyncs[] = {
	[CORE_FSYNC_AUTO] = "auto",
	[CORE_FSYNC_STRICT] = "strict",
	[CORE_FSYNC_VOLATILE] = "volatile",
};

static const char *const report_verities[] = {
	[CORE_VERITY_OFF] = "off",
	[CORE_VERITY_ON] = "on",
	[CORE_VERITY_REQUIRE] = "require",
};

static const char *const report_kinds[] = {
	[CORE_LAYER_UPPER] = "upper",
	[CORE_LAYER_LOWER] = "lower",
	[CORE_LAYER_DATA] = "data",
};

static const char *const report_phases[] = {
	[CORE_COPYUP_COPYING] = "copying",
	[CORE_COPYUP_FINISHING] = "finishing",
};

/* ---- members ---- */

static void report_add(const struct report_json *json, const char *key, json_t *value)
{
	if (json_object_set_new(json->object, key, value) < 0)
		*json->failed = true;
}

static void report_add_string(const struct report_json *json, const char *key, const char *value)
{
	report_add(json, key, json_string(value));
}

static void report_add_number(const struct report_json *json, const char *key, uint64_t value)
{
	report_add(json, key, json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX)));
}

static void report_add_bool(const struct report_json *json, const char *key, bool value)
{
	report_add(json, key, json_boolean(value));
}

static void report_add_device(const struct report_json *json, const char *key, dev_t dev)
{
	char name[CONTROL_NAME_MAX];

	report_add_string(json, key, control_name(dev, name));
}

static void report_add_bytes(const struct report_json *json, const char *key, const char *bytes)
{
	if (jsontext_set(json->object, key, bytes) < 0)
		*json->failed = true;
}

void report_whole_path(const struct report *report, const char *path, struct strbuf *whole)
{
	if (*path != '/' && report->directory) {
		strbuf_append_string(whole, report->directory);
		strbuf_append_string(whole, "/");
	}
	strbuf_append_string(whole, path);
}

/* NULL gives null. */
static void report_add_path(const struct report *report, const struct report_json *json,
			    const char *key, const char *path)
{
	_cleanup_strbuf_ struct strbuf whole = STRBUF_INIT;

	if (path)
		report_whole_path(report, path, &whole);
	*json->failed |= whole.failed;
	report_add_bytes(json, key, path ? whole.data : NULL);
}

/* A new object as member @key. */
static struct report_json report_add_object(const struct report_json *json, const char *key)
{
	struct report_json child = { .object = json_object(), .failed = json->failed };

	report_add(json, key, child.object);
	return child;
}

/* A new object at the end of @array. */
static struct report_json report_append_object(json_t *array, bool *failed)
{
	struct report_json child = { .object = json_object(), .failed = failed };

	if (json_array_append_new(array, child.object) < 0)
		*failed = true;
	return child;
}

static uint64_t report_ms_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)((now.tv_sec - start->tv_sec) * REPORT_MS_PER_S +
			  (now.tv_nsec - start->tv_nsec) / REPORT_NS_PER_MS);
}

/* ---- groups ---- */

static void report_add_layers(const struct report *report, const struct report_json *json)
{
	json_t *array = json_array();

	report_add(json, "layers", array);
	for (unsigned int i = 0; i < core_layer_count(report->core); i++) {
		struct report_json item = report_append_object(array, json->failed);
		char magic[REPORT_NUMBER_MAX];
		struct core_layer layer;

		core_get_layer(report->core, i, &layer);
		snprintf(magic, sizeof(magic), "0x%lx", (unsigned long)layer.magic & 0xffffffffUL);
		report_add_string(&item, "kind", report_kinds[layer.kind]);
		report_add_path(report, &item, "path", layer.path);
		report_add_device(&item, "device", layer.dev);
		report_add_string(&item, "file_system", magic);
	}
}

static json_t *report_timeout(const struct options *options)
{
	if (!options->layers_change)
		return json_null();
	return json_real((double)options->timeout.tv_sec +
			 (double)options->timeout.tv_nsec / REPORT_NS_PER_S);
}

static void report_add_options(const struct report *report, const struct report_json *json)
{
	struct report_json options = report_add_object(json, "options");
	struct core_settings settings;

	core_get_settings(report->core, &settings);
	report_add_string(&options, "redirect_dir", report_redirects[settings.redirect]);
	report_add_string(&options, "metacopy",
			  settings.metacopy_write ? "on" :
			  settings.metacopy	  ? "follow" :
						    "off");
	report_add_string(&options, "index", settings.has_index ? "on" : "off");
	report_add_string(&options, "xattrs", settings.uses_user_xattrs ? "user" : "trusted");
	report_add_string(&options, "fsync", report_fsyncs[settings.fsync]);
	report_add_string(&options, "verity", report_verities[settings.verity]);
	report_add_bool(&options, "read_only", settings.read_only);
	report_add_bool(&options, "static_nlink", settings.static_nlink);
	report_add_bool(&options, "noatime", settings.noatime);
	report_add_bool(&options, "cross_mounts", settings.cross_mounts);
	report_add(&options, "timeout_s", report_timeout(report->options));
}

static void report_add_transport(const struct report *report, const struct report_json *json)
{
	struct report_json transport = report_add_object(json, "transport");
	unsigned int minor = fuse_session_minor(report->session);
	char protocol[REPORT_NUMBER_MAX];
	struct fuse_transport_state state;

	fuse_transport_get_state(report->transport, &state);
	snprintf(protocol, sizeof(protocol), "%d.%u", FUSE_KERNEL_VERSION, minor);
	report_add_string(&transport, "name", state.name);
	report_add_string(&transport, "why", report->transport_why);
	report_add_string(&transport, "protocol", protocol);
	report_add_string(&transport, "data_path",
			  report->datapath->is_passthrough ? "passthrough" : "served");
	report_add_string(&transport, "data_path_why", report->datapath->why);
	report_add_number(&transport, "threads", state.threads);
	report_add_number(&transport, "threads_max", state.threads_max);
	report_add_number(&transport, "threads_waiting", state.waiting);
	report_add_number(&transport, "requests_at_work", fuse_session_inflight(report->session));
}

/* The context of the two visitors below. */
struct report_array {
	json_t *array;
	bool *failed;
};

static void report_visit_opcode(void *context, const struct fuse_opcode_stats *stats)
{
	struct report_array *to = context;
	struct report_json item = report_append_object(to->array, to->failed);

	report_add_string(&item, "kind", stats->name);
	report_add_number(&item, "count", stats->count);
	report_add_number(&item, "bytes", stats->bytes);
	report_add_number(&item, "p50_ns", stats->p50_ns);
	report_add_number(&item, "p99_ns", stats->p99_ns);
}

static void report_add_requests(const struct report *report, const struct report_json *json)
{
	struct report_array to = { json_array(), json->failed };

	report_add(json, "requests", to.array);
	fuse_session_stats(report->session, report_visit_opcode, &to);
}

static void report_visit_copyup(void *context, const struct core_copyup *copyup)
{
	struct report_array *to = context;
	struct report_json item = report_append_object(to->array, to->failed);
	double seconds = (double)MAX(copyup->elapsed_ms, UINT64_C(1)) / REPORT_MS_PER_S;

	report_add_bytes(&item, "path", copyup->path);
	report_add_string(&item, "phase", report_phases[copyup->phase]);
	report_add_number(&item, "done", copyup->done);
	report_add_number(&item, "size", copyup->size);
	report_add_number(&item, "elapsed_ms", copyup->elapsed_ms);
	report_add_number(&item, "bytes_per_s", (uint64_t)((double)copyup->done / seconds));
}

static void report_add_copyups(const struct report *report, const struct report_json *json,
			       const struct core_counts *counts)
{
	struct report_json copyups = report_add_object(json, "copy_ups");
	struct report_array to = { json_array(), json->failed };

	report_add_number(&copyups, "count", counts->copyups);
	report_add_number(&copyups, "bytes", counts->copyup_bytes);
	report_add(&copyups, "running", to.array);
	if (core_copyups(report->core, report_visit_copyup, &to) < 0)
		*json->failed = true;
}

static void report_add_caches(const struct report_json *json, const struct core_counts *counts)
{
	struct report_json caches = report_add_object(json, "caches");

	report_add_number(&caches, "nodes", counts->nodes);
	report_add_number(&caches, "nodes_max", counts->nodes_max);
	report_add_number(&caches, "open_directories", counts->open_dirs);
	report_add_number(&caches, "descriptors", counts->fds);
	report_add_number(&caches, "descriptors_max", counts->fds_max);
	report_add_number(&caches, "orphans", counts->orphan_fds);
	report_add_number(&caches, "orphans_max", counts->orphan_fds_max);
	report_add_number(&caches, "name_index_bytes", counts->name_index_bytes);
	report_add_number(&caches, "name_index_bytes_max", counts->name_index_bytes_max);
}

static void report_fill(const struct report *report, const struct report_json *json)
{
	struct core_counts counts;

	core_get_counts(report->core, &counts);
	report_add_number(json, "version", CONTROL_STATUS_VERSION);
	report_add_string(json, "program", VENEER_VERSION);
	report_add_number(json, "pid", (uint64_t)getpid());
	report_add_number(json, "uptime_ms", report_ms_since(&report->started));
	report_add_layers(report, json);
	report_add_path(report, json, "workdir", report->options->workdir);
	report_add_options(report, json);
	report_add_bool(json, "unfinished_commit", core_is_half_done(report->core));
	report_add_transport(report, json);
	report_add_requests(report, json);
	report_add_copyups(report, json, &counts);
	report_add_caches(json, &counts);
}

void report_status(const struct report *report, struct strbuf *answer)
{
	bool failed = false;
	struct report_json json = { .object = json_object(), .failed = &failed };
	_cleanup_free_ char *text = NULL;

	report_fill(report, &json);
	text = failed ? NULL : json_dumps(json.object, JSON_COMPACT);
	json_decref(json.object);
	if (text) {
		strbuf_append_string(answer, text);
		strbuf_append_string(answer, "\n");
	} else {
		answer->failed = true;
	}
}

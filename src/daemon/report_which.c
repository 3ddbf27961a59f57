/* SPDX-License-Identifier: MIT */
/* Which layers an object comes from, as JSON. */
#include "daemon/report.h"

#include <jansson.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "base/util.h"
#include "format/jsontext.h"

struct report_object {
	const struct report *report;
	json_t *json; /* owned; NULL: out of memory */
};

static const char *report_type_name(mode_t type)
{
	switch (type) {
	case S_IFDIR:
		return "directory";
	case S_IFREG:
		return "file";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "character device";
	default:
		return "block device";
	}
}

static const char *report_kind_name(enum core_layer_kind kind)
{
	return kind == CORE_LAYER_UPPER ? "upper" : kind == CORE_LAYER_LOWER ? "lower" : "data";
}

/* {"kind": "lower", "number": 2, "layer": "/...", "path": "a/b"}; NULL: out of memory. */
static json_t *report_part(const struct report *report, const struct core_part *part)
{
	_cleanup_strbuf_ struct strbuf root = STRBUF_INIT;
	struct core_layer layer;

	core_get_layer(report->core, part->layer, &layer);
	report_whole_path(report, layer.path, &root);
	json_t *json = json_pack("{s:s, s:i}", "kind", report_kind_name(layer.kind), "number",
				 (int)part->layer);

	if (json && !root.failed && jsontext_set(json, "layer", root.data) == 0 &&
	    jsontext_set(json, "path", part->path) == 0)
		return json;
	json_decref(json);
	return NULL;
}

/* All that merge. */
static json_t *report_parts(const struct report *report, const struct core_origin *origin)
{
	json_t *array = json_array();

	for (unsigned int i = 0; array && i < origin->count; i++)
		if (json_array_append_new(array, report_part(report, &origin->parts[i])) < 0) {
			json_decref(array);
			array = NULL;
		}
	return array;
}

/* Only what has any has a place of its data; it may be missing. */
static json_t *report_data(const struct report *report, const struct core_origin *origin)
{
	if (!S_ISREG(origin->type) || (origin->is_metacopy && origin->count < 2))
		return json_null();
	return report_part(report, &origin->parts[origin->count - 1]);
}

static void report_visit_origin(void *context, const struct core_origin *origin)
{
	struct report_object *object = context;

	object->json = json_pack(
		"{s:i, s:s, s:b, s:b, s:o, s:o, s:o}", "version", CONTROL_WHICH_VERSION, "type",
		report_type_name(origin->type), "copied_up", origin->is_copied_up, "metacopy",
		origin->is_metacopy, "metadata", report_part(object->report, &origin->parts[0]),
		"data", report_data(object->report, origin), "merged",
		S_ISDIR(origin->type) ? report_parts(object->report, origin) : json_null());
}

void report_which(const struct report *report, const char *path, struct strbuf *answer)
{
	struct report_object object = { .report = report };
	_cleanup_free_ char *text = NULL;
	int r = core_which(report->core, path, report_visit_origin, &object);

	if (r < 0)
		object.json = json_pack("{s:s}", "error", strerror(-r));
	text = json_dumps(object.json, JSON_COMPACT);
	json_decref(object.json);
	if (text) {
		strbuf_append_string(answer, text);
		strbuf_append_string(answer, "\n");
	} else {
		answer->failed = true;
	}
}

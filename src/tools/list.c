/* SPDX-License-Identifier: MIT */
#include "tools/list.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "base/log.h"
#include "format/jsontext.h"
#include "offline/layerfile.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "tools/args.h"
#include "tools/ask.h"
#include "tools/human.h"
#include "tools/locate.h"
#include "tools/mounts.h"
#include "tools/run_layer.h"
#include "tools/run_space.h"
#include "tools/run_sweep.h"
#include "tools/weigh.h"

#define LIST_SCHEMA "veneer-list"
#define LIST_VERSION 1
/* A list is to come at once: what is larger than this is "more than". */
#define LIST_ENTRIES_MAX 20000

struct list_args {
	bool as_json;
	json_t *mounts, *layers, *errors; /* what there is, as in JSON; owned */
	const char *state; /* the state directory */
	int fd;
	bool failed; /* out of memory */
};

static const struct argp_option list_options[] = {
	{ "json", 'j', NULL, 0, "JSON, see docs/list.schema.json", 0 },
	{ 0 },
};

static error_t list_parse(int key, char *arg, struct argp_state *state)
{
	struct list_args *args = state->input;

	switch (key) {
	case 'j':
		args->as_json = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "no argument is wanted: %s", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp list_argp = {
	.options = list_options,
	.parser = list_parse,
	.doc = "Lists the live mounts of this user, and the layers that 'veneer run' kept under a "
	       "name.\v"
	       "Exit status: 0 if the list is complete, 1 if not, 2 if the command line was not "
	       "understood.",
};

static void list_complain(struct list_args *args, const char *path, const char *text)
{
	json_t *error = json_object();

	log_error("%s: %s", path, text);
	if (jsontext_set(error, "path", path) < 0 ||
	    json_object_set_new(error, "error", json_string(text)) < 0 ||
	    json_array_append_new(args->errors, error) < 0)
		args->failed = true;
}

/* ---- live mounts ---- */

/* What its daemon says of itself. NULL: nothing. */
static json_t *list_ask(const struct mounts_entry *entry)
{
	_cleanup_strbuf_ struct strbuf answer = STRBUF_INIT;
	int r = ask_daemon(entry->dev, CONTROL_REQUEST_STATUS, &answer);

	return r < 0 ? NULL : json_loadb(answer.data, answer.length, 0, NULL);
}

/* The member of the first layer, if that is an upper. */
static int list_take_upper(json_t *mount, json_t *report)
{
	json_t *layer = json_array_get(json_object_get(report, "layers"), 0);
	const char *kind = json_string_value(json_object_get(layer, "kind"));
	_cleanup_free_ char *path = NULL;

	if (kind && !strcmp(kind, "upper") && jsontext_get(layer, "path", &path) < 0)
		return -EINVAL;
	return jsontext_set(mount, "upper", path);
}

/* A member of @report, or null. */
static json_t *list_member(json_t *report, const char *key)
{
	json_t *value = json_object_get(report, key);

	return value ? json_incref(value) : json_null();
}

static void list_mount(struct list_args *args, const struct mounts_entry *entry)
{
	char device[CONTROL_NAME_MAX];
	json_t *report = list_ask(entry);
	json_t *mount = json_pack("{s:s, s:o, s:o}", "device", control_name(entry->dev, device),
				  "pid", list_member(report, "pid"), "uptime_ms",
				  list_member(report, "uptime_ms"));

	if (!report)
		list_complain(args, entry->point,
			      "its daemon does not answer: 'veneer status' "
			      "says why");
	if (jsontext_set(mount, "mount_point", entry->point) < 0 ||
	    list_take_upper(mount, report) < 0 || json_array_append_new(args->mounts, mount) < 0)
		args->failed = true;
	json_decref(report);
}

static void list_mounts(struct list_args *args)
{
	_cleanup_mounts_ struct mounts mounts = MOUNTS_INIT;
	int r = mounts_read(&mounts);

	if (r < 0)
		list_complain(args, "/proc/self/mountinfo", strerror(-r));
	for (size_t i = 0; r == 0 && i < mounts.count; i++)
		/* Of the run we are in we can see no more than that. */
		if (mounts_is_own(&mounts, &mounts.entries[i]) &&
		    strcmp(mounts.entries[i].source, RUN_SPACE_UNION) != 0)
			list_mount(args, &mounts.entries[i]);
}

/* ---- kept layers ---- */

static json_t *list_command(const struct layerfile *file)
{
	json_t *words = json_array();

	for (char **word = file->command; words && word && *word; word++) {
		json_t *item = json_object();

		if (jsontext_set(item, "word", *word) < 0 ||
		    json_array_append_new(words, item) < 0) {
			json_decref(words);
			return NULL;
		}
	}
	return words;
}

static int list_describe(json_t *layer, const char *name, const char *directory,
			 const struct layerfile *file)
{
	_cleanup_strbuf_ struct strbuf upper = STRBUF_INIT;
	pid_t pid = run_layer_user(directory);
	time_t age = time(NULL) - file->created.tv_sec;
	struct weight weight = { .is_partial = true };

	strbuf_append_format(&upper, "%s/" LAYERFILE_UPPER, directory);
	if (upper.failed)
		return -ENOMEM;
	weigh_tree(upper.data, NULL, 0, LIST_ENTRIES_MAX, &weight);
	if (jsontext_set(layer, "name", name) < 0 ||
	    jsontext_set(layer, "directory", directory) < 0)
		return -ENOMEM;
	json_t *rest = json_pack("{s:o, s:I, s:I, s:I, s:b, s:o}", "pid",
				 pid > 0 ? json_integer(pid) : json_null(), "age_s",
				 (json_int_t)(age > 0 ? age : 0), "entries",
				 (json_int_t)weight.entries, "bytes", (json_int_t)weight.bytes,
				 "is_partial", weight.is_partial, "command", list_command(file));
	int r = json_object_update(layer, rest);

	json_decref(rest);
	return r < 0 ? -ENOMEM : 0;
}

static int list_layer(const struct sys_dirent *entry, void *context)
{
	struct list_args *args = context;
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT, why = STRBUF_INIT;
	_cleanup_layerfile_ struct layerfile file = LAYERFILE_INIT;

	strbuf_append_format(&path, "%s/%s", args->state, entry->name);
	if (path.failed)
		return -ENOMEM;
	int r = layerfile_read(path.data, &file, &why);

	/* Something else, or one that is being made. */
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0) {
		list_complain(args, path.data, why.length && !why.failed ? why.data : strerror(-r));
		return 0;
	}
	json_t *layer = json_object();

	r = list_describe(layer, entry->name, path.data, &file);
	if (r < 0) {
		json_decref(layer);
		return r;
	}
	return json_array_append_new(args->layers, layer) < 0 ? -ENOMEM : 0;
}

static void list_layers(struct list_args *args)
{
	_cleanup_strbuf_ struct strbuf state = STRBUF_INIT;

	if (locate_state(&state) < 0)
		return;
	_cleanup_close_ int fd = sys_open_path(state.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd;

	args->state = state.data;
	run_sweep(state.data);
	if (fd >= 0)
		r = sys_dir_for_each(fd, list_layer, args);
	if (r < 0 && r != -ENOENT)
		list_complain(args, state.data, strerror(-r));
	args->state = NULL;
}

/* ---- telling ---- */

static void list_print_name(const json_t *object, const char *key)
{
	_cleanup_free_ char *bytes = NULL;

	if (jsontext_get(object, key, &bytes) == 0)
		human_print_name(stdout, bytes);
}

static void list_print_mount(const json_t *mount)
{
	char up[HUMAN_MAX];

	list_print_name(mount, "mount_point");
	if (json_is_integer(json_object_get(mount, "pid")))
		printf("  live, process %lld, up %s",
		       (long long)json_integer_value(json_object_get(mount, "pid")),
		       human_duration(
			       (uint64_t)json_integer_value(json_object_get(mount, "uptime_ms")) /
				       1000,
			       up));
	else
		printf("  does not answer");
	if (json_is_string(json_object_get(mount, "upper"))) {
		printf(", changes in ");
		list_print_name(mount, "upper");
	} else {
		printf(", read-only");
	}
	putchar('\n');
}

static void list_print_layer(const json_t *layer)
{
	json_int_t entries = json_integer_value(json_object_get(layer, "entries"));
	char age[HUMAN_MAX], size[HUMAN_MAX];
	const json_t *word;
	size_t i;

	list_print_name(layer, "name");
	if (json_is_integer(json_object_get(layer, "pid")))
		printf("  in use by process %lld",
		       (long long)json_integer_value(json_object_get(layer, "pid")));
	else
		printf("  kept");
	printf(", %s%lld %s, %s, begun %s ago:",
	       json_is_true(json_object_get(layer, "is_partial")) ? "more than " : "",
	       (long long)entries, entries == 1 ? "entry" : "entries",
	       human_size((uint64_t)json_integer_value(json_object_get(layer, "bytes")), size),
	       human_duration((uint64_t)json_integer_value(json_object_get(layer, "age_s")), age));
	json_array_foreach(json_object_get(layer, "command"), i, word)
	{
		putchar(' ');
		list_print_name(word, "word");
	}
	putchar('\n');
}

static void list_print(const struct list_args *args)
{
	const json_t *item;
	size_t i;

	json_array_foreach(args->mounts, i, item)
	{
		list_print_mount(item);
	}
	json_array_foreach(args->layers, i, item)
	{
		list_print_layer(item);
	}
}

static void list_print_json(struct list_args *args)
{
	json_t *all = json_pack("{s:s, s:i, s:O, s:O, s:O}", "schema", LIST_SCHEMA, "version",
				LIST_VERSION, "mounts", args->mounts, "layers", args->layers,
				"errors", args->errors);

	if (!all || json_dumpf(all, stdout, JSON_INDENT(2)) < 0)
		args->failed = true;
	putchar('\n');
	json_decref(all);
}

int list_run(int argc, char **argv)
{
	struct list_args args = {
		.mounts = json_array(),
		.layers = json_array(),
		.errors = json_array(),
	};

	args_parse(&list_argp, argc, argv, false, &args);
	list_mounts(&args);
	list_layers(&args);
	if (args.as_json)
		list_print_json(&args);
	else
		list_print(&args);
	bool is_complete = json_array_size(args.errors) == 0 && !args.failed;

	if (args.failed)
		log_error("%s", strerror(ENOMEM));
	json_decref(args.mounts);
	json_decref(args.layers);
	json_decref(args.errors);
	return fflush(stdout) == 0 && is_complete ? EXIT_SUCCESS : EXIT_FAILURE;
}

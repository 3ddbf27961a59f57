/* SPDX-License-Identifier: MIT */
#include "tools/which.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "base/log.h"
#include "format/jsontext.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "tools/args.h"
#include "tools/ask.h"
#include "tools/human.h"
#include "tools/mounts.h"

#define WHICH_SCHEMA "veneer-which"

struct which_args {
	bool as_json;
	char **paths;
	int count;
	struct mounts mounts;
	json_t *shown, *errors; /* arrays of --json; owned */
	bool failed; /* something could not be told, and a message says so */
};

/* Appends the sentence and returns the errno it explains. */
#define which_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- the command line ---- */

static const struct argp_option which_options[] = {
	{ "json", 'j', NULL, 0, "JSON, see docs/which.schema.json", 0 },
	{ 0 },
};

static error_t which_parse(int key, char *arg, struct argp_state *state)
{
	struct which_args *args = state->input;

	switch (key) {
	case 'j':
		args->as_json = true;
		return 0;
	case ARGP_KEY_ARGS:
		args->paths = state->argv + state->next;
		args->count = state->argc - state->next;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which PATH?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp which_argp = {
	.options = which_options,
	.parser = which_parse,
	.args_doc = "PATH...",
	.doc = "Says which layers of a live mount a path comes from. A symbolic link is looked at "
	       "itself.\v"
	       "Exit status: 0 if that was told of every path, 1 if not, 2 if the command line was "
	       "not understood.",
};

/* ---- where it is ---- */

/* The path of the open object from the root of its file system, at the end of @path. */
static int which_find_path(int fd, const struct mounts_entry *entry, struct strbuf *path)
{
	char fd_path[SYS_FD_PATH_MAX], text[PATH_MAX];
	size_t length = strcmp(entry->point, "/") == 0 ? 0 : strlen(entry->point);
	ssize_t size = sys_readlink(AT_FDCWD, sys_fd_path(fd, fd_path), text, sizeof(text));

	if (size < 0)
		return (int)size;
	if ((size_t)size == sizeof(text))
		return -ENAMETOOLONG;
	text[size] = '\0';
	if (strncmp(text, entry->point, length) != 0 || (text[length] && text[length] != '/'))
		return -ENOENT; /* it has been moved away meanwhile */
	/* A bind mount shows a part. */
	strbuf_append_string(path, entry->root + 1);
	if (path->length)
		strbuf_append_string(path, "/");
	strbuf_append_string(path, text[length] ? text + length + 1 : "");
	return path->failed ? -ENOMEM : 0;
}

static int which_find(const struct which_args *args, const char *path,
		      const struct mounts_entry **entryp, struct strbuf *inner, struct strbuf *why)
{
	_cleanup_close_ int fd = sys_open_path(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	unsigned long long id;
	int r = fd < 0 ? fd : sys_mount_id(fd, &id);
	const struct mounts_entry *entry = r < 0 ? NULL : mounts_find(&args->mounts, id);

	if (r == 0 && (!entry || !mounts_is_veneer(entry)))
		return which_fail(why, -EINVAL, "is not on a mount of veneer but on %s (%s)",
				  entry ? entry->point : "something not mounted here",
				  entry ? entry->type : "?");
	if (r == 0)
		r = which_find_path(fd, entry, inner);
	if (r < 0)
		return which_fail(why, r, "%s", strerror(-r));
	*entryp = entry;
	return 0;
}

/* ---- asking ---- */

/* What the daemon says; NULL with a sentence in @why. */
static json_t *which_ask(const struct mounts_entry *entry, const char *inner, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf request = STRBUF_INIT, answer = STRBUF_INIT;

	strbuf_append_string(&request, CONTROL_REQUEST_WHICH);
	ask_add_word(&request, inner);
	int r = request.failed ? -ENOMEM : ask_daemon(entry->dev, request.data, &answer);
	json_t *json = r < 0 ? NULL : json_loadb(answer.data, answer.length, 0, NULL);
	const char *error = json_string_value(json_object_get(json, "error"));

	if (r < 0)
		ask_explain(entry->owner, r, why);
	else if (error && strcmp(error, "unknown request") != 0)
		strbuf_append_string(why, error);
	else if (json_integer_value(json_object_get(json, "version")) == CONTROL_WHICH_VERSION)
		return json;
	else
		strbuf_append_string(why, "the daemon of this mount is of another version of "
					  "veneer: use the command it was mounted with");
	json_decref(json);
	return NULL;
}

/* ---- telling ---- */

static void which_print_name(const json_t *object, const char *key)
{
	_cleanup_free_ char *bytes = NULL;

	if (jsontext_get(object, key, &bytes) == 0)
		human_print_name(stdout, bytes);
}

static void which_print_part(const char *label, const json_t *part)
{
	const char *path = json_string_value(json_object_get(part, "path"));

	printf("  %-9s ", label);
	if (json_is_null(part)) {
		puts("missing");
		return;
	}
	printf("%-5s ", json_string_value(json_object_get(part, "kind")));
	which_print_name(part, "layer");
	if (path && *path) {
		putchar('/');
		which_print_name(part, "path");
	}
	putchar('\n');
}

static void which_print(const char *path, const json_t *answer)
{
	const json_t *data = json_object_get(answer, "data"), *part;
	const char *type = json_string_value(json_object_get(answer, "type"));
	size_t i;

	human_print_name(stdout, path);
	printf(": %s%s%s\n", type ? type : "?",
	       json_is_true(json_object_get(answer, "copied_up")) ? ", copied up" : "",
	       json_is_true(json_object_get(answer, "metacopy")) ? " without its data" : "");
	which_print_part("metadata", json_object_get(answer, "metadata"));
	if (type && !strcmp(type, "file"))
		which_print_part("data", data);
	json_array_foreach(json_object_get(answer, "merged"), i, part)
	{
		which_print_part("names", part);
	}
}

/* With what was asked for, and where that is. */
static json_t *which_describe(const char *path, const struct mounts_entry *entry, const char *inner,
			      json_t *answer)
{
	json_t *object = json_object();

	if (jsontext_set(object, "path", path) == 0 &&
	    jsontext_set(object, "mount_point", entry->point) == 0 &&
	    jsontext_set(object, "inner", inner) == 0 && json_object_del(answer, "version") == 0 &&
	    json_object_update(object, answer) == 0)
		return object;
	json_decref(object);
	return NULL;
}

static void which_complain(struct which_args *args, const char *path, const struct strbuf *why)
{
	const char *text = why->length && !why->failed ? why->data : strerror(ENOMEM);
	json_t *error = json_object();

	args->failed = true;
	log_error("%s: %s", path, text);
	jsontext_set(error, "path", path);
	json_object_set_new(error, "error", json_string(text));
	json_array_append_new(args->errors, error);
}

static void which_tell(struct which_args *args, const char *path)
{
	_cleanup_strbuf_ struct strbuf inner = STRBUF_INIT, why = STRBUF_INIT;
	const struct mounts_entry *entry;
	json_t *answer = NULL;

	if (which_find(args, path, &entry, &inner, &why) == 0)
		answer = which_ask(entry, inner.data ? inner.data : "", &why);
	if (!answer) {
		which_complain(args, path, &why);
		return;
	}
	if (!args->as_json)
		which_print(path, answer);
	else if (json_array_append_new(args->shown,
				       which_describe(path, entry, inner.data ? inner.data : "",
						      answer)) < 0)
		args->failed = true;
	json_decref(answer);
}

static void which_print_json(struct which_args *args)
{
	json_t *all = json_pack("{s:s, s:i, s:O, s:O}", "schema", WHICH_SCHEMA, "version",
				CONTROL_WHICH_VERSION, "paths", args->shown, "errors",
				args->errors);

	if (!all || json_dumpf(all, stdout, JSON_INDENT(2)) < 0)
		args->failed = true;
	putchar('\n');
	json_decref(all);
}

int which_run(int argc, char **argv)
{
	struct which_args args = { .shown = json_array(), .errors = json_array() };
	int r = args_parse(&which_argp, argc, argv, false, &args);

	if (r == 0)
		r = mounts_read(&args.mounts);
	if (r < 0)
		log_error("/proc/self/mountinfo: %s", strerror(-r));
	for (int i = 0; r == 0 && i < args.count; i++)
		which_tell(&args, args.paths[i]);
	if (r == 0 && args.as_json)
		which_print_json(&args);
	mounts_deinit(&args.mounts);
	json_decref(args.shown);
	json_decref(args.errors);
	return r == 0 && fflush(stdout) == 0 && !args.failed ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* SPDX-License-Identifier: MIT */
#include "tools/run_place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "sys/file.h"
#include "tools/locate.h"
#include "tools/run_sweep.h"

/* Of a name that is made up: the command's part of it. */
#define RUN_NAME_MAX 24
/* Names have the second in them, and this many are begun in none. */
#define RUN_NAME_TRIES 100000

/* Appends the sentence and returns the errno it explains. */
#define run_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* Every directory of an absolute path that is not there yet. */
static int run_place_parents(const char *path, struct strbuf *why)
{
	_cleanup_free_ char *copy = strdup(path);
	int r = copy ? 0 : -ENOMEM;

	for (char *slash = copy ? strchr(copy + 1, '/') : NULL; r == 0 && slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		r = sys_mkdir(AT_FDCWD, copy, 0755);
		if (r == -EEXIST)
			r = 0;
		if (r < 0)
			r = run_fail(why, r, "%s: %s", copy, strerror(-r));
		*slash = '/';
	}
	return r;
}

/* What a layer without a name is called: after the command, and the time. */
static void run_place_name(const struct run_options *options, unsigned int attempt, char *name,
			   size_t size)
{
	const char *slash = strrchr(options->command[0], '/');
	const char *word = slash ? slash + 1 : options->command[0];
	time_t now = time(NULL);
	struct tm tm = { 0 };
	char when[RUN_NAME_MAX], what[RUN_NAME_MAX];
	size_t length = 0;

	for (; *word && length < sizeof(what) - 1; word++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_",
			   *word) ||
		    (length > 0 && strchr("-.+", *word)))
			what[length++] = *word;
	what[length] = '\0';
	localtime_r(&now, &tm);
	strftime(when, sizeof(when), "%m%d-%H%M%S", &tm);
	snprintf(name, size, attempt ? "%s-%s-%u" : "%s-%s", length ? what : "run", when, attempt);
}

static int run_place_check_name(const char *name, struct strbuf *why)
{
	if (*name && *name != '.' && !strchr(name, '/') && strlen(name) < NAME_MAX)
		return 0;
	return run_fail(why, -EINVAL,
			"--name %s: a name has no slash and does not begin with a point (a "
			"directory is named with --keep)",
			name);
}

/* A new directory of its own in the state directory. */
static int run_place_temporary(const struct run_options *options, const char *state,
			       struct run_layer *layer, struct strbuf *why)
{
	int r = -EEXIST;

	for (unsigned int i = 0; r == -EEXIST && i < RUN_NAME_TRIES; i++) {
		_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
		char name[3 * RUN_NAME_MAX];

		run_place_name(options, i, name, sizeof(name));
		strbuf_append_format(&path, "%s/%s", state, name);
		r = path.failed ? -ENOMEM : sys_mkdir(AT_FDCWD, path.data, 0700);
		if (r < 0 && r != -EEXIST)
			r = run_fail(why, r, "%s: %s (--keep DIR names a place for the layer)",
				     path.data, strerror(-r));
		if (r == 0) {
			layer->directory = strbuf_take(&path);
			layer->name = strdup(name);
			layer->is_temporary = layer->is_new = true;
		}
	}
	return r < 0 ? r : layer->directory && layer->name ? 0 : -ENOMEM;
}

/* A directory that the user has named, made if it is not there. */
static int run_place_named(const char *path, const char *name, struct run_layer *layer,
			   struct strbuf *why)
{
	int r = sys_mkdir(AT_FDCWD, path, 0700);

	if (r < 0 && r != -EEXIST)
		return run_fail(why, r, "%s: %s", path, strerror(-r));
	layer->is_new = r == 0;
	layer->directory = realpath(path, NULL);
	if (!layer->directory) {
		r = -errno;
		return run_fail(why, r, "%s: %s", path, strerror(-r));
	}
	layer->name = strdup(name ? name : layer->directory);
	return layer->name ? 0 : -ENOMEM;
}

int run_place_layer(const struct run_options *options, struct run_layer *layer, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	int r;

	if (options->keep)
		return run_place_named(options->keep, NULL, layer, why);
	r = options->name ? run_place_check_name(options->name, why) : 0;
	if (r < 0)
		return r;
	r = locate_state(&path);
	if (r == -ENOENT)
		return run_fail(why, r, "HOME is not set: --keep DIR names a place for the layer");
	strbuf_append_string(&path, "/");
	if (r == 0)
		r = path.failed ? -ENOMEM : run_place_parents(path.data, why);
	if (r < 0)
		return r;
	path.data[--path.length] = '\0';
	run_sweep(path.data);
	if (!options->name)
		return run_place_temporary(options, path.data, layer, why);
	strbuf_append_format(&path, "/%s", options->name);
	return path.failed ? -ENOMEM : run_place_named(path.data, options->name, layer, why);
}

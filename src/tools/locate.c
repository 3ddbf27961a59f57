/* SPDX-License-Identifier: MIT */
#include "tools/locate.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/control.h"
#include "format/jsontext.h"
#include "offline/layerfile.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/xattr.h"
#include "tools/ask.h"
#include "tools/mounts.h"
#include "tools/run_space.h"

#define LOCATE_STATE_ROOT "/var/lib/veneer"
/* With the path that was named. */
#define LOCATE_OWN_LAYER                                                                          \
	"%s: is the layer of the 'veneer run' that this command is in: look at it from outside, " \
	"or when that has ended"
#define LOCATE_STATE_HOME ".local/state"

/* Appends the sentence and returns the errno it explains. */
#define locate_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

int locate_state(struct strbuf *path)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

	if (geteuid() == 0)
		strbuf_append_string(path, LOCATE_STATE_ROOT);
	else if (state && *state == '/')
		strbuf_append_format(path, "%s/veneer", state);
	else if (home && *home == '/')
		strbuf_append_format(path, "%s/" LOCATE_STATE_HOME "/veneer", home);
	else
		return -ENOENT;
	return path->failed ? -ENOMEM : 0;
}

static bool locate_exists(const char *path)
{
	struct statx st;

	return sys_stat(AT_FDCWD, path, &st) == 0;
}

/* ---- a directory ---- */

/* The namespace that marks the upper; where it has no mark, the one its owner would use. */
static enum xattr_namespace locate_namespace(const char *upper)
{
	static const enum xattr_private marks[] = { XATTR_ORIGIN, XATTR_IMPURE, XATTR_UUID };
	_cleanup_close_ int fd = sys_open_path(upper, O_PATH | O_DIRECTORY);

	for (size_t i = 0; fd >= 0 && i < sizeof(marks) / sizeof(marks[0]); i++)
		for (int ns = XATTR_TRUSTED; ns <= XATTR_USER; ns++)
			if (sys_getxattr(fd, xattr_private_name(ns, marks[i]), NULL, 0) >= 0)
				return ns;
	return geteuid() == 0 ? XATTR_TRUSTED : XATTR_USER;
}

/* @path made absolute; the caller's. A sentence in @why says what is not there. */
static int locate_resolve(const char *what, const char *path, char **resolved, struct strbuf *why)
{
	*resolved = realpath(path, NULL);
	if (*resolved)
		return 0;
	int r = -errno;

	return locate_fail(why, r, "%s %s: %s", what, path, strerror(-r));
}

/* `work` beside the upper, if there is one. */
static void locate_guess_work(struct target *target)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	const char *slash = strrchr(target->upper, '/');

	strbuf_append_format(&path, "%.*s/work", (int)(slash - target->upper), target->upper);
	if (!path.failed && locate_exists(path.data))
		target->work = strbuf_take(&path);
}

static int locate_take_lowers(const char *value, struct target *target, struct strbuf *why)
{
	const char *reason;
	int r = lowerdir_parse(value, &target->lowers, &reason);

	if (r < 0)
		return locate_fail(why, r, "--lower %s: %s", value,
				   r == -EINVAL ? reason : strerror(-r));
	for (size_t i = 0; i < target->lowers.count; i++) {
		char *resolved;

		r = locate_resolve("lower", target->lowers.items[i].path, &resolved, why);
		if (r < 0)
			return r;
		free(target->lowers.items[i].path);
		target->lowers.items[i].path = resolved;
	}
	return 0;
}

static int locate_upper(const char *path, const struct args_target *args, struct target *target,
			struct strbuf *why)
{
	int r = locate_resolve("layer", path, &target->upper, why);

	if (r == 0 && args->work)
		r = locate_resolve("work directory", args->work, &target->work, why);
	else if (r == 0)
		locate_guess_work(target);
	if (r == 0 && args->lower)
		r = locate_take_lowers(args->lower, target, why);
	if (r == 0)
		target->ns = args->userxattr ? XATTR_USER : locate_namespace(target->upper);
	return r;
}

static int locate_join(const char *directory, const char *name, char **path)
{
	_cleanup_strbuf_ struct strbuf joined = STRBUF_INIT;

	strbuf_append_format(&joined, "%s/%s", directory, name);
	*path = strbuf_take(&joined);
	return *path ? 0 : -ENOMEM;
}

/* A directory with a layer.json. -ENOENT: it has none. */
static int locate_kept(const char *path, struct target *target, struct strbuf *why)
{
	_cleanup_layerfile_ struct layerfile file = LAYERFILE_INIT;
	int r = layerfile_read(path, &file, why);

	if (r == 0)
		r = locate_resolve("layer", path, &target->directory, why);
	if (r == 0)
		r = locate_join(target->directory, LAYERFILE_UPPER, &target->upper);
	if (r == 0)
		r = locate_join(target->directory, LAYERFILE_WORK, &target->work);
	if (r < 0)
		return r;
	target->lowers = file.lowers;
	file.lowers = (struct lowerdir_list){ 0 };
	target->cross_mounts = file.cross_mounts;
	target->created = file.created;
	target->ns = file.userxattr ? XATTR_USER : XATTR_TRUSTED;
	return 0;
}

/* ---- a live mount ---- */

static int locate_take_layer(struct target *target, json_t *layer)
{
	const char *kind = json_string_value(json_object_get(layer, "kind"));
	_cleanup_free_ char *path = NULL;
	int r = jsontext_get(layer, "path", &path);

	if (r < 0 || !kind)
		return -EINVAL;
	if (!strcmp(kind, "upper"))
		target->upper = ptr_take(path);
	else
		r = lowerdir_list_add(&target->lowers, path, !strcmp(kind, "data"));
	return r;
}

static int locate_take_report(struct target *target, json_t *report)
{
	json_t *options = json_object_get(report, "options"), *layer;
	const char *xattrs = json_string_value(json_object_get(options, "xattrs"));
	size_t i;
	int r = 0;

	json_array_foreach(json_object_get(report, "layers"), i, layer)
	{
		if (r == 0)
			r = locate_take_layer(target, layer);
	}
	if (r == 0 && !json_is_null(json_object_get(report, "workdir")))
		r = jsontext_get(report, "workdir", &target->work);
	target->ns = xattrs && !strcmp(xattrs, "user") ? XATTR_USER : XATTR_TRUSTED;
	target->cross_mounts = json_is_true(json_object_get(options, "cross_mounts"));
	return r;
}

static int locate_ask(const struct mounts_entry *entry, struct target *target, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf answer = STRBUF_INIT;
	int r = ask_daemon(entry->dev, CONTROL_REQUEST_STATUS, &answer);
	json_t *report = r < 0 ? NULL : json_loadb(answer.data, answer.length, 0, NULL);

	if (r == 0)
		r = report ? locate_take_report(target, report) : -EPROTO;
	json_decref(report);
	if (r < 0) /* not -ENOENT: it is a mount */
		return locate_fail(why, r == -ENOENT ? -ENOTCONN : r,
				   "the daemon of %s cannot be asked (%s): 'veneer status %s' says "
				   "more",
				   entry->point, strerror(-r), entry->point);
	target->dev = entry->dev;
	target->mount_point = strdup(entry->point);
	return target->mount_point ? 0 : -ENOMEM;
}

/* @path in a live mount. -ENOENT: it is in none of veneer. */
static int locate_mount(const char *path, struct target *target, struct strbuf *why)
{
	_cleanup_close_ int fd = sys_open_path(path, O_PATH | O_CLOEXEC);
	_cleanup_mounts_ struct mounts mounts = MOUNTS_INIT;
	const struct mounts_entry *entry;
	unsigned long long id;
	int r = fd < 0 ? fd : sys_mount_id(fd, &id);

	if (r == 0)
		r = mounts_read(&mounts);
	if (r < 0)
		return locate_fail(why, r == -ENOENT ? -EINVAL : r, "%s: %s", path, strerror(-r));
	entry = mounts_find(&mounts, id);
	if (!entry || !mounts_is_veneer(entry))
		return -ENOENT;
	/* Its daemon has the layer where only who is outside can see it. */
	if (!strcmp(entry->source, RUN_SPACE_UNION))
		return locate_fail(why, -EBUSY, LOCATE_OWN_LAYER, path);
	return locate_ask(entry, target, why);
}

/* ---- in a run ---- */

/* What a run has in the place of what it does not show. -ENOENT: @path is nothing of that. */
static int locate_hidden(const char *path, struct strbuf *why)
{
	_cleanup_close_ int fd = sys_open_path(path, O_PATH | O_CLOEXEC);
	_cleanup_mounts_ struct mounts mounts = MOUNTS_INIT;
	const struct mounts_entry *entry;
	unsigned long long id;

	if (fd < 0 || sys_mount_id(fd, &id) < 0 || mounts_read(&mounts) < 0)
		return -ENOENT;
	entry = mounts_find(&mounts, id);
	if (!entry || strcmp(entry->type, "tmpfs") != 0)
		return -ENOENT;
	if (!strcmp(entry->source, RUN_SPACE_LAYER))
		return locate_fail(why, -EBUSY, LOCATE_OWN_LAYER, path);
	if (!strcmp(entry->source, RUN_SPACE_HIDDEN))
		return locate_fail(why, -EACCES,
				   "%s: is hidden in the 'veneer run' that this command is in",
				   path);
	return -ENOENT;
}

/* True if the root is the union of a run. */
static bool locate_is_in_run(void)
{
	_cleanup_mounts_ struct mounts mounts = MOUNTS_INIT;
	_cleanup_close_ int fd = sys_open_path("/", O_PATH | O_CLOEXEC);
	const struct mounts_entry *entry = NULL;
	unsigned long long id;

	if (fd >= 0 && sys_mount_id(fd, &id) == 0 && mounts_read(&mounts) == 0)
		entry = mounts_find(&mounts, id);
	return entry && mounts_is_veneer(entry) && !strcmp(entry->source, RUN_SPACE_UNION);
}

/* ---- what is meant ---- */

/* A path as it is; else the name of a kept layer. */
static int locate_path(const char *name, struct strbuf *path)
{
	_cleanup_strbuf_ struct strbuf kept = STRBUF_INIT;

	if (locate_exists(name) || strchr(name, '/') || locate_state(&kept) < 0) {
		strbuf_append_string(path, name);
	} else {
		strbuf_append_format(&kept, "/%s", name);
		if (kept.failed)
			return -ENOMEM;
		strbuf_append_string(path, locate_exists(kept.data) ? kept.data : name);
	}
	return path->failed ? -ENOMEM : 0;
}

int locate_target(const char *name, const struct args_target *args, struct target *target,
		  struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	bool is_described = args->lower || args->work || args->upper || args->userxattr;
	int r;

	*target = TARGET_INIT;
	if (!name)
		name = args->upper;
	if (!name)
		return locate_fail(why, -EINVAL, "which layer? Name a directory or a mount");
	target->name = strdup(name);
	r = target->name ? locate_path(name, &path) : -ENOMEM;
	if (r < 0 || is_described)
		return r < 0 ? r : locate_upper(path.data, args, target, why);
	r = locate_hidden(path.data, why);
	if (r == -ENOENT)
		r = locate_kept(path.data, target, why);
	if (r == -ENOENT)
		r = locate_mount(path.data, target, why);
	if (r == -ENOENT)
		r = locate_upper(path.data, args, target, why);
	if (r < 0 && !locate_exists(path.data) && locate_is_in_run())
		strbuf_append_string(why, " (in a 'veneer run' the layers of outside, and its own, "
					  "are not seen)");
	return r;
}

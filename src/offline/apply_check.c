/* SPDX-License-Identifier: MIT */
/*
 * Whether others changed what is below since the upper's objects were made.
 *
 * An object of the upper was born when it was copied up, created or removed;
 * what lies below under its name has not been changed since if its change time
 * is not later. The change time is what nobody can set. Where a run goes
 * elsewhere than below the layer, change times say nothing: there the
 * destination is compared with what is below.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "format/origin.h"
#include "offline/apply_internal.h"
#include "offline/view.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "sys/xattr.h"

void apply_complain(struct apply *apply, const char *path, const char *what)
{
	if (apply->config->conflict)
		apply->config->conflict(apply->config->context, path, what);
}

static bool apply_time_is_later(const struct statx_timestamp *time, int64_t sec, uint32_t nsec)
{
	return time->tv_sec != sec ? time->tv_sec > sec : time->tv_nsec > nsec;
}

/* When the object of the upper came to be; false: nobody knows. */
static bool apply_get_birth(const struct apply *apply, const struct statx *up,
			    struct statx_timestamp *birth)
{
	const struct timespec *begun = &apply->begun;

	if (up->stx_mask & STATX_BTIME &&
	    apply_time_is_later(&up->stx_btime, begun->tv_sec, (uint32_t)begun->tv_nsec)) {
		*birth = up->stx_btime;
		return true;
	}
	/* Whiteouts are links of one that may be older than the layer's last commit. */
	birth->tv_sec = begun->tv_sec;
	birth->tv_nsec = (uint32_t)begun->tv_nsec;
	return begun->tv_sec != 0;
}

static bool apply_is_changed(const struct apply *apply, const struct statx *up,
			     const struct statx *low)
{
	struct statx_timestamp birth;

	return apply_get_birth(apply, up, &birth) &&
	       apply_time_is_later(&low->stx_ctime, birth.tv_sec, birth.tv_nsec);
}

/* ---- a destination that is not below ---- */

static int apply_compare_with_shown(struct apply_visit *visit)
{
	struct apply *apply = visit->apply;
	const struct statx *low = &visit->step.low.st;
	_cleanup_free_ char *absolute = NULL;
	struct core_entry shown;

	if (!apply->shown)
		return 0;
	if (asprintf(&absolute, "/%s", visit->step.place.source) < 0)
		return -ENOMEM;
	int r = view_lookup(apply->shown, absolute, &shown);

	if (r < 0)
		return apply_fail_path(apply, r, "look below for", visit->path);
	if (shown.node == 0)
		apply_complain(apply, visit->path,
			       "is in the destination, but not below the layer");
	else if ((shown.attr.stx_mode & S_IFMT) != (low->stx_mode & S_IFMT))
		apply_complain(apply, visit->path,
			       "is of another type in the destination than below the layer");
	else if (S_ISREG(low->stx_mode) && (shown.attr.stx_size != low->stx_size ||
					    shown.attr.stx_mtime.tv_sec != low->stx_mtime.tv_sec ||
					    shown.attr.stx_mtime.tv_nsec != low->stx_mtime.tv_nsec))
		apply_complain(apply, visit->path,
			       "is another file in the destination than below the layer");
	if (shown.node != 0 && shown.node != CORE_ROOT)
		core_forget(apply->shown, shown.node, 1);
	return 0;
}

/* ---- identity ---- */

/* What the object of the upper was copied from; false: it does not say. */
static bool apply_get_origin(const struct apply_visit *visit, struct origin *origin)
{
	uint8_t value[ORIGIN_SIZE_MAX];
	ssize_t size = sys_getxattr_at(visit->upper_fd, visit->name,
				       xattr_private_name(visit->apply->ns, XATTR_ORIGIN), value,
				       sizeof(value));

	return size > 0 && origin_decode(value, (size_t)size, origin) == ORIGIN_VALID;
}

/*
 * A directory that is merged is the one it was copied from. Of a file that cannot be said: it may
 * have been renamed to here.
 */
static bool apply_is_replaced(const struct apply_visit *visit)
{
	static const uint8_t none[16];
	struct origin origin;
	struct sys_handle handle;
	uint8_t uuid[16];

	if (!S_ISDIR(visit->up.st.stx_mode) || !S_ISDIR(visit->step.low.st.stx_mode) ||
	    visit->up.redirect || !apply_get_origin(visit, &origin))
		return false;
	_cleanup_close_ int fd = sys_open(visit->source_fd, visit->name, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0 || sys_handle_get(fd, "", &handle) < 0)
		return false;
	/* Of another file system, or moved with all that is on it: nothing to compare with. */
	if (memcmp(origin.uuid, none, sizeof(none)) != 0 &&
	    (sys_fs_uuid(fd, uuid) < 0 || memcmp(uuid, origin.uuid, sizeof(uuid)) != 0))
		return false;
	return handle.type != origin.type || handle.size != origin.fid_size ||
	       memcmp(handle.bytes, origin.fid, handle.size) != 0;
}

/* Nothing of the directory @from in the upper would be given to @to but what it has. */
static bool apply_is_dressed_alike(struct apply *apply, int from, int to, const struct statx *up,
				   const struct statx *low)
{
	return from >= 0 && to >= 0 && up->stx_mode == low->stx_mode &&
	       up->stx_uid == low->stx_uid && up->stx_gid == low->stx_gid &&
	       apply_attr_is_equal(apply, from, to);
}

/*
 * A directory that is merged changes whenever a name in it does, and each of those is looked at by
 * itself. What is left are its attributes: it matters who changed them only if they are not the same.
 */
static bool apply_is_only_names(const struct apply_visit *visit)
{
	struct entry up = visit->up; /* its strings are borrowed */
	const struct statx *low = &visit->step.low.st;

	if (!S_ISDIR(up.st.stx_mode) || !S_ISDIR(low->stx_mode) || up.opaque == OPAQUE_YES ||
	    up.redirect)
		return false;
	_cleanup_close_ int from = sys_open(visit->upper_fd, visit->name, O_PATH | O_DIRECTORY, 0);
	_cleanup_close_ int to = sys_open(visit->source_fd, visit->name, O_PATH | O_DIRECTORY, 0);

	entry_inherit_owner(&up, low);
	return apply_is_dressed_alike(visit->apply, from, to, &up.st, low);
}

int apply_check_visit(struct apply_visit *visit)
{
	struct apply *apply = visit->apply;

	if (apply->config->to)
		return apply_compare_with_shown(visit);
	if (apply_is_replaced(visit))
		apply_complain(apply, visit->path,
			       "is another directory below than the layer was begun on");
	else if (apply_is_changed(apply, &visit->up.st, &visit->step.low.st) &&
		 !apply_is_only_names(visit))
		apply_complain(apply, visit->path, "was changed below since the layer has it");
	return 0;
}

/* ---- the root ---- */

int apply_check_root(struct apply *apply)
{
	const struct timespec *created = &apply->config->target->created;
	_cleanup_entry_ struct entry up = ENTRY_INIT;
	struct statx st;

	/* The directory of the upper itself is older or younger than the layer, as it happens. */
	if (apply->config->to || created->tv_sec == 0)
		return 0;
	int r = sys_stat(apply->dest_fd, "", &st);

	if (r == 0)
		r = entry_read(apply->upper_fd, "", apply->ns, &up);
	if (r == 0)
		entry_inherit_owner(&up, &st);
	if (r == 0 &&
	    apply_time_is_later(&st.stx_ctime, created->tv_sec, (uint32_t)created->tv_nsec) &&
	    !apply_is_dressed_alike(apply, apply->upper_fd, apply->dest_fd, &up.st, &st))
		apply_complain(apply, "", "was changed below since the layer was begun");
	return r;
}

/* ---- what is to go ---- */

struct apply_hidden {
	struct apply *apply;
	const struct statx *up;
	const char *shown; /* path of the top in the union */
	const char *top; /* and in the destination */
	char **todo; /* directories; owned, as are they */
	size_t count;
};

static int apply_check_hidden_name(struct apply_hidden *hidden, int fd, const char *directory,
				   const char *name)
{
	struct apply *apply = hidden->apply;
	struct statx st;
	int r = sys_stat(fd, name, &st);
	_cleanup_free_ char *path = r < 0 ? NULL : apply_join(directory, name);

	if (r < 0 || !path)
		return r < 0 ? r : -ENOMEM;
	if (sys_stat_is_mount_root(&st))
		return apply_fail(
			apply, -ENOTSUP,
			"something is mounted on %s/%s, which was removed: unmount it first",
			apply->dest, path);
	if (!apply->config->to && apply_is_changed(apply, hidden->up, &st)) {
		_cleanup_free_ char *shown =
			apply_join(hidden->shown, path + strlen(hidden->top) + 1);

		if (!shown)
			return -ENOMEM;
		apply_complain(apply, shown, "was changed below since it was removed");
	}
	if (!S_ISDIR(st.stx_mode))
		return 0;
	if (apply_grow(hidden->todo, hidden->count) < 0)
		return -ENOMEM;
	hidden->todo[hidden->count++] = ptr_take(path);
	return 0;
}

static int apply_check_hidden_dir(struct apply_hidden *hidden, const char *directory)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	_cleanup_close_ int fd = apply_open_dir(hidden->apply->dest_fd, directory);
	int r = fd < 0 ? fd : entry_names_read(fd, &names);

	if (r == 0 && names.count > 0)
		r = apply_note_closed(hidden->apply, fd, directory);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = apply_check_hidden_name(hidden, fd, directory, names.names[i]);
	return r;
}

int apply_check_hidden(struct apply_visit *visit)
{
	struct apply_hidden hidden = {
		.apply = visit->apply,
		.up = &visit->up.st,
		.shown = visit->path,
		.top = visit->step.place.source,
	};
	int r = apply_check_hidden_dir(&hidden, hidden.top);

	/* The list grows while it is read. */
	for (size_t i = 0; r == 0 && i < hidden.count; i++)
		r = apply_check_hidden_dir(&hidden, hidden.todo[i]);
	for (size_t i = 0; i < hidden.count; i++)
		free(hidden.todo[i]);
	free(hidden.todo);
	return r < 0 ? apply_fail_path(visit->apply, r, "look at", visit->path) : 0;
}

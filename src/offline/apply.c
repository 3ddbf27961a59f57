/* SPDX-License-Identifier: MIT */
/* Opening, the stages of a run, and the end. */
#include "offline/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "offline/apply_internal.h"
#include "offline/layerfile.h"
#include "offline/mutate.h"
#include "offline/view.h"
#include "sys/file.h"
#include "sys/mount.h"

/* ---- opening ---- */

static int apply_open_path(struct apply *apply, const char *path, int *fd)
{
	*fd = sys_open_path(path, O_RDONLY | O_DIRECTORY);
	return *fd < 0 ? apply_fail_path(apply, *fd, "open", path) : 0;
}

/* Which directory is merged into, and whether it stays a layer. */
static int apply_choose_dest(struct apply *apply)
{
	const struct apply_config *config = apply->config;
	const struct target *target = config->target;
	const char *dest = config->to;

	if (!dest && target->lowers.count == 0)
		return apply_fail(apply, -EINVAL,
				  "nobody knows what %s lies over: name it with --lower, or with "
				  "--to a directory to merge into",
				  target->upper);
	if (!dest && target->lowers.items[0].data_only)
		return apply_fail(apply, -EINVAL,
				  "%s is for data only: nothing can be merged into it",
				  target->lowers.items[0].path);
	if (!dest)
		dest = target->lowers.items[0].path;
	apply->stays_layer = !config->to && target->lowers.count > 1;
	apply->dest_real = realpath(dest, NULL);
	apply->upper_real = realpath(target->upper, NULL);
	if (!apply->dest_real || !apply->upper_real)
		return apply_fail_path(apply, -errno, "find",
				       apply->dest_real ? target->upper : dest);
	apply->dest = strdup(strcmp(apply->dest_real, "/") == 0 ? "" : apply->dest_real);
	return apply->dest ? 0 : -ENOMEM;
}

/* One inside the other would be merged into itself. */
static bool apply_is_inside(const char *inner, const char *outer)
{
	size_t length = strlen(outer);

	return strncmp(inner, outer, length) == 0 && (inner[length] == '/' || !inner[length]);
}

static int apply_open_dirs(struct apply *apply)
{
	const struct target *target = apply->config->target;
	struct statx upper, dest;
	int r = apply_open_path(apply, target->upper, &apply->upper_fd);

	if (r == 0)
		r = apply_open_path(apply, target->work, &apply->work_fd);
	if (r == 0)
		r = apply_open_path(apply, apply->dest_real, &apply->dest_fd);
	if (r == 0 && !apply->config->is_held)
		r = hold_take(target->upper, target->work, &apply->hold, apply->why);
	/* Live or not: of what the mount lies over the daemon has no lock. */
	if (r == 0)
		r = hold_take_dest(apply->dest_real, &apply->dest_hold, apply->why);
	if (r == 0)
		r = sys_stat(apply->upper_fd, "", &upper);
	if (r == 0)
		r = sys_stat(apply->dest_fd, "", &dest);
	if (r == 0)
		r = sys_mount_id(apply->upper_fd, &apply->upper_mount);
	if (r == 0)
		r = sys_mount_id(apply->dest_fd, &apply->dest_mount);
	if (r < 0)
		return r;
	/* With what is mounted in it a lower may hold the upper, but not in a place it has a name. */
	if (apply_is_inside(apply->dest_real, apply->upper_real) ||
	    (!target->cross_mounts && apply_is_inside(apply->upper_real, apply->dest_real)))
		return apply_fail(apply, -EINVAL, "%s and %s are one inside the other",
				  target->upper, apply->dest_real);
	apply->upper_dev = sys_stat_dev(&upper);
	apply->dest_dev = sys_stat_dev(&dest);
	apply->index_fd = apply_open_work(apply->work_fd, "index", false);
	return apply->index_fd < 0 && apply->index_fd != -ENOENT ?
		       apply_fail_path(apply, apply->index_fd, "open the index in", target->work) :
		       0;
}

/* Unions to look things up in: what is below the destination, or below the layer. */
static int apply_open_views(struct apply *apply)
{
	const struct target *target = apply->config->target;
	struct target below = *target;
	int r = 0;

	if (apply->stays_layer) {
		below.lowers.items++;
		below.lowers.count--;
		/* Data alone shows nothing. */
		if (!below.lowers.items[0].data_only)
			r = view_open(&below, VIEW_LOWERS, &apply->below, apply->why);
	} else if (apply->config->to && !apply->is_unfinished && target->lowers.count > 0) {
		r = view_open(target, VIEW_LOWERS, &apply->shown, apply->why);
	}
	return r;
}

static int apply_init(struct apply *apply)
{
	const struct target *target = apply->config->target;

	apply->begun = target->created;
	if (!target->upper)
		return apply_fail(apply, -EINVAL, "%s has no upper: there is nothing to merge",
				  target->name);
	if (!target->work)
		return apply_fail(apply, -EINVAL,
				  "%s has no work directory that is known: name it with --work",
				  target->name);
	int r = apply_choose_dest(apply);

	if (r == 0)
		r = apply_open_dirs(apply);
	if (r == 0)
		r = apply_journal_find(apply);
	if (r < 0)
		return apply_fail_path(apply, r, "open", target->name);
	return apply_open_views(apply);
}

int apply_open(const struct apply_config *config, struct apply **applyp, struct strbuf *why)
{
	struct apply *apply = calloc(1, sizeof(*apply));

	if (!apply)
		return -ENOMEM;
	apply->config = config;
	apply->ns = config->target->ns;
	apply->why = why;
	apply->upper_fd = apply->work_fd = apply->dest_fd = -1;
	apply->index_fd = apply->journal_fd = -1;
	apply->hold = apply->dest_hold = HOLD_INIT;
	apply->is_root_user = geteuid() == 0;
	int r = apply_init(apply);

	if (r < 0)
		apply_free(apply);
	else
		*applyp = apply;
	return r;
}

bool apply_is_unfinished(const struct apply *apply)
{
	return apply->is_unfinished;
}

const char *apply_rest(const struct apply *apply)
{
	if (!apply->is_unfinished)
		return "";
	if (apply->is_applied)
		return "all is merged, and the layer is to be emptied";
	if (apply->is_staged || apply->move_count == 0)
		return "what is not merged yet is to be merged, and the layer to be emptied";
	return "what was renamed is to be moved, all is to be merged, and the layer to be emptied";
}

const char *apply_dest(const struct apply *apply)
{
	return apply->dest_real;
}

uint64_t apply_bytes(const struct apply *apply)
{
	return apply->bytes;
}

/* ---- running ---- */

/* Before the first change: what the upper holds is on the disk, and so is the plan. */
static int apply_begin(struct apply *apply)
{
	int r = mutate_syncfs(apply->upper_fd);

	if (r < 0)
		return apply_fail_path(apply, r, "sync", apply->config->target->upper);
	/* What a run left that had only this to remove must not be taken for marks of the new one. */
	r = apply_journal_remove(apply);
	return r < 0 ? r : apply_journal_write(apply);
}

static int apply_stage(struct apply *apply)
{
	int r = apply_stage_moves(apply);

	if (r == 0)
		r = apply_sync(apply);
	return r < 0 ? r : apply_journal_mark(apply, APPLY_MARK_STAGED);
}

static int apply_do_merge(struct apply *apply)
{
	int r = apply_merge(apply);

	if (r == 0)
		r = apply_sync(apply);
	return r < 0 ? r : apply_journal_mark(apply, APPLY_MARK_APPLIED);
}

/* What was begun then is over; from now on it is another layer on the same directory. */
static int apply_note_begin(struct apply *apply)
{
	const struct target *target = apply->config->target;
	_cleanup_layerfile_ struct layerfile file = LAYERFILE_INIT;

	if (!target->directory)
		return 0;
	int r = layerfile_read(target->directory, &file, apply->why);

	if (r == 0) {
		clock_gettime(CLOCK_REALTIME, &file.created);
		r = layerfile_write(target->directory, &file, apply->why);
	}
	return r;
}

int apply_run(struct apply *apply, struct strbuf *why)
{
	int r = 0;

	apply->why = why;
	mutate_faults_arm();
	if (!apply->is_unfinished)
		r = apply_begin(apply);
	else if (apply->index_fd >= 0)
		r = apply_read_index(apply);
	if (r == 0 && !apply->is_staged)
		r = apply_stage(apply);
	if (r == 0 && !apply->is_applied)
		r = apply_do_merge(apply);
	if (r == 0)
		r = apply_empty_upper(apply);
	if (r == 0)
		r = apply_note_begin(apply);
	if (r == 0)
		r = apply_journal_remove(apply);
	return r < 0 ? apply_fail(apply, r, "%s", strerror(-r)) : 0;
}

void apply_free(struct apply *apply)
{
	if (!apply)
		return;
	const int fds[] = { apply->upper_fd, apply->work_fd, apply->dest_fd, apply->index_fd,
			    apply->journal_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (size_t i = 0; i < apply->touched_count; i++)
		close(apply->touched[i].fd);
	free(apply->touched);
	hold_deinit(&apply->hold);
	hold_deinit(&apply->dest_hold);
	core_free(apply->below);
	core_free(apply->shown);
	apply_plan_deinit(apply);
	free(apply->dest);
	free(apply->dest_real);
	free(apply->upper_real);
	free(apply);
}

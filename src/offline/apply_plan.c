/* SPDX-License-Identifier: MIT */
/*
 * The plan: all directories of the upper with what they are merged with, and
 * what has to be moved. Nothing is changed here.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "offline/apply_internal.h"
#include "sys/file.h"

void apply_tell(struct apply *apply, enum apply_verb verb, const char *path, const char *from,
		uint64_t bytes)
{
	const struct apply_action action = {
		.verb = verb, .path = path, .from = from, .bytes = bytes
	};

	apply->bytes += bytes;
	if (apply->config->action)
		apply->config->action(apply->config->context, &action);
}

int apply_add_move(struct apply_visit *visit, const struct apply_step *step, size_t *move)
{
	struct apply *apply = visit->apply;
	const struct statx *low = &step->low.st;
	struct apply_move *added;

	if (apply_grow(apply->moves, apply->move_count) < 0)
		return -ENOMEM;
	*move = apply->move_count;
	added = &apply->moves[apply->move_count++];
	*added = (struct apply_move){
		.ino = low->stx_ino,
		.upper_ino = S_ISDIR(low->stx_mode) ? 0 : visit->up.st.stx_ino,
		.to_dir = visit->dir,
		.is_dir = S_ISDIR(low->stx_mode),
	};
	return apply_copy_path(step->place.source, &added->source);
}

/* What is mounted on the directory that was added last, which is @name in @dirfd. */
static int apply_note_mount(struct apply *apply, int dirfd, const char *name)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);

	return fd < 0 ? fd : apply_identify(fd, &apply->dirs[apply->dir_count - 1].identity);
}

/* Takes @place over. */
static int apply_add_dir(struct apply_visit *visit, struct apply_place *place, size_t move)
{
	struct apply *apply = visit->apply;

	struct apply_dir *added;

	if (apply_grow(apply->dirs, apply->dir_count) < 0)
		return -ENOMEM;
	added = &apply->dirs[apply->dir_count++];
	*added = (struct apply_dir){ .place = *place, .parent = visit->dir, .move = move };
	added->path = ptr_take(visit->path);
	*place = APPLY_PLACE_INIT;
	apply->dirs[visit->dir].is_written |= move != APPLY_NONE || !visit->step.is_there ||
					      !S_ISDIR(visit->step.low.st.stx_mode);
	return 0;
}

/* ---- whiteouts ---- */

static int apply_plan_whiteout(struct apply_visit *visit)
{
	struct apply *apply = visit->apply;
	bool is_there = visit->step.is_there;
	const struct apply_place *parent = &apply->dirs[visit->dir].place;
	int r = 0;

	if (is_there)
		r = apply_check_visit(visit);
	if (r == 0 && is_there && S_ISDIR(visit->step.low.st.stx_mode))
		r = apply_check_hidden(visit);
	if (r < 0)
		return r;
	if (apply->below && parent->below && !visit->step.is_whiteout) {
		_cleanup_free_ char *below = apply_join(parent->below, visit->name);

		r = below ? apply_below_has(apply, below) : -ENOMEM;
	}
	if (r < 0)
		return r;
	apply->dirs[visit->dir].is_written |= is_there || r > 0;
	if (r > 0)
		apply_tell(apply, APPLY_HIDE, visit->path, NULL, 0);
	else if (is_there)
		apply_tell(apply, APPLY_REMOVE, visit->path, visit->step.place.source, 0);
	else if (!visit->step.is_whiteout && parent->source)
		apply_complain(apply, visit->path,
			       "is gone from below, where it was to be removed");
	return 0;
}

/* ---- directories ---- */

/* It shows nothing of what is below under its name. */
static int apply_plan_opaque_dir(struct apply_visit *visit)
{
	struct apply_place place = APPLY_PLACE_INIT;
	int r = 0;

	if (visit->step.is_there) {
		r = apply_check_visit(visit);
		if (r == 0 && S_ISDIR(visit->step.low.st.stx_mode))
			r = apply_check_hidden(visit);
	}
	apply_tell(visit->apply, visit->step.is_there ? APPLY_REPLACE : APPLY_ADD, visit->path,
		   NULL, 0);
	return r < 0 ? r : apply_add_dir(visit, &place, APPLY_NONE);
}

/* Whether anything is there for a directory to be merged with. */
static int apply_plan_is_found(struct apply *apply, const struct apply_step *step)
{
	if (step->is_there)
		return S_ISDIR(step->low.st.stx_mode);
	return step->place.below ? apply_below_has(apply, step->place.below) : 0;
}

static bool apply_is_same_source(const struct apply_visit *visit, const struct apply_step *step)
{
	return step->place.source && visit->step.place.source &&
	       strcmp(step->place.source, visit->step.place.source) == 0;
}

/* It goes on in the directory that was found, not where it is. */
static int apply_plan_moved_dir(struct apply_visit *visit, struct apply_step *step)
{
	struct apply *apply = visit->apply;
	size_t move = APPLY_NONE;
	int r = 0;

	if (visit->step.is_there) {
		r = apply_check_visit(visit);
		if (r == 0 && S_ISDIR(visit->step.low.st.stx_mode))
			r = apply_check_hidden(visit);
	}
	if (r == 0 && step->is_there) {
		if (sys_stat_is_mount_root(&step->low.st))
			return apply_fail(apply, -ENOTSUP,
					  "a file system is mounted on %s/%s, which was renamed: "
					  "unmount it first",
					  apply->dest, step->place.source);
		r = apply_add_move(visit, step, &move);
	}
	if (r < 0)
		return r;
	apply_tell(apply, step->is_there ? APPLY_MOVE : APPLY_ADD, visit->path, step->place.source,
		   0);
	return apply_add_dir(visit, &step->place, move);
}

static int apply_plan_redirected_dir(struct apply_visit *visit)
{
	struct apply *apply = visit->apply;
	_cleanup_step_ struct apply_step step = APPLY_STEP_INIT;
	const struct apply_place *parent = &apply->dirs[visit->dir].place;
	int r = apply_resolve(apply, visit->source_fd, parent, visit->up.redirect, &step);

	if (r == 0)
		r = apply_plan_is_found(apply, &step);
	if (r < 0)
		return r;
	if (r == 0) {
		apply_complain(apply, visit->path,
			       "was renamed, and is gone from where it was below");
		return apply_plan_opaque_dir(visit);
	}
	if (apply_is_same_source(visit, &step))
		return apply_add_dir(visit, &step.place, APPLY_NONE);
	return apply_plan_moved_dir(visit, &step);
}

/* It is merged with what has its name. */
static int apply_plan_merged_dir(struct apply_visit *visit)
{
	struct apply *apply = visit->apply;
	const struct entry *low = &visit->step.low;
	const struct statx *st = &visit->up.st;
	int r = apply_plan_is_found(apply, &visit->step);

	if (r < 0)
		return r;
	if (visit->step.is_there) {
		entry_inherit_owner(&visit->up, &low->st);
		int checked = apply_check_visit(visit);

		if (checked < 0)
			return checked;
	} else if (r == 0 && visit->up.has_origin && !visit->step.is_whiteout) {
		apply_complain(apply, visit->path, "is gone from below");
	}
	/* A file of that name is replaced, and nothing further below shows through. */
	if (visit->step.is_there && !S_ISDIR(low->st.stx_mode)) {
		apply_place_deinit(&visit->step.place);
		apply_tell(apply, APPLY_REPLACE, visit->path, NULL, 0);
	} else if (!visit->step.is_there) {
		apply_tell(apply, APPLY_ADD, visit->path, NULL, 0);
	} else if (low->st.stx_mode != st->stx_mode || low->st.stx_uid != st->stx_uid ||
		   low->st.stx_gid != st->stx_gid) {
		apply_tell(apply, APPLY_CHANGE, visit->path, NULL, 0);
	}
	bool is_mount = visit->step.is_there && visit->step.place.source &&
			sys_stat_is_mount_root(&low->st);

	r = apply_add_dir(visit, &visit->step.place, APPLY_NONE);
	return r < 0 || !is_mount ? r : apply_note_mount(apply, visit->source_fd, visit->name);
}

static int apply_plan_dir(struct apply_visit *visit)
{
	const struct apply_place *parent = &visit->apply->dirs[visit->dir].place;

	if (visit->up.opaque == OPAQUE_YES)
		return apply_plan_opaque_dir(visit);
	/* In a directory that merges with nothing only a way from the root leads anywhere. */
	if (visit->up.redirect && (visit->up.redirect[0] == '/' || parent->source || parent->below))
		return apply_plan_redirected_dir(visit);
	return apply_plan_merged_dir(visit);
}

/* ---- names ---- */

static int apply_plan_visit(struct apply_visit *visit)
{
	struct apply *apply = visit->apply;
	int r = entry_read(visit->upper_fd, visit->name, apply->ns, &visit->up);

	if (r < 0)
		return apply_fail_path(apply, r, "look at", visit->path);
	if (visit->up.has_bad_redirect)
		return apply_fail(apply, -ENOTSUP,
				  "the redirect of %s is damaged: have veneer fsck repair it",
				  visit->path);
	r = apply_step(apply, visit->source_fd, &apply->dirs[visit->dir].place, visit->name,
		       &visit->step);
	if (r < 0)
		return r;
	/* What is mounted can be merged into, but not replaced. */
	if (visit->step.is_there && sys_stat_is_mount_root(&visit->step.low.st) &&
	    (visit->up.is_whiteout || !S_ISDIR(visit->up.st.stx_mode) || visit->up.redirect ||
	     visit->up.opaque == OPAQUE_YES))
		return apply_fail(
			apply, -ENOTSUP,
			"something is mounted on %s/%s, which was replaced: unmount it first",
			apply->dest, visit->step.place.source);
	if (visit->up.is_whiteout)
		return apply_plan_whiteout(visit);
	return S_ISDIR(visit->up.st.stx_mode) ? apply_plan_dir(visit) : apply_plan_file(visit);
}

static int apply_plan_name(struct apply_visit *of_dir, const char *name)
{
	struct apply_visit visit = *of_dir;
	struct apply *apply = visit.apply;

	visit.name = name;
	visit.path = apply_join(apply->dirs[visit.dir].path, name);
	int r = visit.path ? 0 : -ENOMEM;

	if (r == 0)
		r = apply_plan_visit(&visit);
	apply_step_deinit(&visit.step);
	entry_deinit(&visit.up);
	free(visit.path);
	return r;
}

/* Names of the run are random; what has one nevertheless would be taken for its own. */
static int apply_plan_check_names(struct apply *apply, int source_fd, const char *source)
{
	struct statx st;
	int r = sys_stat(source_fd, apply->temp, &st);

	if (r != 0)
		return r == -ENOENT ? 0 : r;
	return apply_fail(apply, -EEXIST, "%s/%s%s%s is in the way: remove it", apply->dest, source,
			  *source ? "/" : "", apply->temp);
}

static int apply_plan_names(struct apply *apply, size_t dir)
{
	_cleanup_close_ int upper_fd = apply_open_dir(apply->upper_fd, apply->dirs[dir].path);
	_cleanup_close_ int source_fd = -1;
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	const char *source = apply->dirs[dir].place.source;
	int r = upper_fd < 0 ? upper_fd : entry_names_read(upper_fd, &names);

	if (r == 0 && source) {
		source_fd = apply_open_dir(apply->dest_fd, source);
		r = source_fd < 0 ? source_fd : apply_plan_check_names(apply, source_fd, source);
	}
	if (r < 0)
		return apply_fail_path(apply, r, "read", apply->dirs[dir].path);
	struct apply_visit visit = {
		.apply = apply, .dir = dir, .upper_fd = upper_fd, .source_fd = source_fd
	};

	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = apply_plan_name(&visit, names.names[i]);
	if (r == 0 && source)
		r = apply_check_ready(apply, dir, upper_fd, source_fd);
	return r;
}

static int apply_plan_root(struct apply *apply)
{
	struct apply_dir *root;

	if (apply_grow(apply->dirs, apply->dir_count) < 0)
		return -ENOMEM;
	root = &apply->dirs[apply->dir_count++];
	*root = (struct apply_dir){ .move = APPLY_NONE };
	root->path = strdup("");
	root->place.source = strdup("");
	root->place.below = apply->stays_layer ? strdup("") : NULL;
	if (!root->path || !root->place.source || (apply->stays_layer && !root->place.below))
		return -ENOMEM;
	return apply_check_root(apply);
}

int apply_plan(struct apply *apply, struct strbuf *why)
{
	apply->why = why;
	int r = apply->is_unfinished && !apply->is_applied ? apply_recheck(apply) : 0;

	if (r < 0)
		return apply_fail(apply, r, "cannot look at %s: %s", apply->dest, strerror(-r));
	if (apply->is_unfinished)
		return 0; /* it was loaded */
	clock_gettime(CLOCK_REALTIME, &apply->planned);
	r = apply_name_run(apply, NULL);

	if (r == 0)
		r = apply_read_index(apply);
	if (r == 0)
		r = apply_plan_root(apply);
	/* Directories are added at the end: so all of them are visited. */
	for (size_t i = 0; r == 0 && i < apply->dir_count; i++)
		r = apply_plan_names(apply, i);
	if (r == 0)
		r = apply_build_tables(apply);
	if (r == 0)
		r = apply_plan_moves(apply);
	if (r == 0)
		r = apply_check_closed(apply);
	if (r == 0)
		r = apply_plan_links(apply);
	if (r == 0)
		r = apply_check_extras_ready(apply);
	if (r == 0)
		r = apply_build_tables(apply);
	return r < 0 ? apply_fail(apply, r, "cannot plan: %s", strerror(-r)) : 0;
}

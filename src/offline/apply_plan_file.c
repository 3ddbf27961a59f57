/* SPDX-License-Identifier: MIT */
/* Planning what is no directory: above all where the data of a file without data is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "offline/apply_internal.h"
#include "sys/file.h"

/* Takes @redirect over. */
static int apply_add_meta(struct apply_visit *visit, const struct apply_meta *meta)
{
	struct apply *apply = visit->apply;
	struct apply_meta *added;

	if (apply_grow(apply->metas, apply->meta_count) < 0) {
		free(meta->redirect);
		return -ENOMEM;
	}
	added = &apply->metas[apply->meta_count++];
	*added = *meta;
	added->path = ptr_take(visit->path);
	return apply_copy_path(meta->source, &added->source);
}

/* Its data is further below than the destination. */
static int apply_plan_deep_meta(struct apply_visit *visit, const struct apply_place *place)
{
	struct apply *apply = visit->apply;
	struct apply_meta meta = { .kind = APPLY_META_DEEP, .move = APPLY_NONE };
	bool is_opaque;
	int r = 0;

	apply->dirs[visit->dir].is_written = true;
	/* A way from the root is right for all names of a file. */
	if (visit->up.st.stx_nlink > 1)
		r = asprintf(&meta.redirect, "/%s", place->below) < 0 ? -ENOMEM : 0;
	else
		r = apply_mark(&apply->dirs[visit->dir].place, visit->name, place->below,
			       &is_opaque, &meta.redirect);
	return r < 0 ? r : apply_add_meta(visit, &meta);
}

/* Its data is in the destination, in the file @step. */
static int apply_plan_own_meta(struct apply_visit *visit, const struct apply_step *step)
{
	struct apply *apply = visit->apply;
	const char *own = visit->step.place.source;
	struct apply_meta meta = { .kind = APPLY_META_HERE, .move = APPLY_NONE };

	if (step->low.st.stx_size != visit->up.st.stx_size)
		apply_complain(apply, visit->path, "has data of another size below");
	meta.source = step->place.source;
	if (own && strcmp(own, step->place.source) == 0) {
		/* In its place, unless it has names that stay as they are. */
		apply->dirs[visit->dir].is_written |= step->low.st.stx_nlink > 1;
		return apply_add_meta(visit, &meta);
	}
	apply->dirs[visit->dir].is_written = true;
	meta.kind = APPLY_META_MOVED;
	int r = apply_add_move(visit, step, &meta.move);

	if (r < 0)
		return r;
	struct apply_move *move = &apply->moves[meta.move];

	move->is_linked = apply_is_indexed(apply, &visit->up.st);
	move->is_copied = !move->is_linked && step->low.st.stx_nlink > 1;
	return apply_add_meta(visit, &meta);
}

/* Only its attributes are here. */
static int apply_plan_meta(struct apply_visit *visit)
{
	struct apply *apply = visit->apply;
	const struct apply_place *parent = &apply->dirs[visit->dir].place;
	_cleanup_step_ struct apply_step step = APPLY_STEP_INIT;
	const char *name = visit->up.redirect ? visit->up.redirect : visit->name;
	int r = apply_resolve(apply, visit->source_fd, parent, name, &step);

	if (r < 0)
		return r;
	bool is_moved = visit->up.redirect &&
			!(visit->step.place.source && step.place.source &&
			  !strcmp(visit->step.place.source, step.place.source));

	if (step.is_there && S_ISREG(step.low.st.stx_mode) && !step.low.is_metacopy) {
		apply_tell(apply, is_moved ? APPLY_MOVE : APPLY_CHANGE, visit->path,
			   step.place.source, 0);
		return apply_plan_own_meta(visit, &step);
	}
	if ((!step.is_there || step.low.is_metacopy) && step.place.below)
		r = apply_below_has(apply, step.place.below);
	if (r < 0)
		return r;
	if (r == 0)
		return apply_fail(apply, -ENOTSUP,
				  "the data of %s, of which the layer has the attributes, is gone "
				  "from below",
				  visit->path);
	apply_tell(apply, is_moved ? APPLY_MOVE : APPLY_CHANGE, visit->path, step.place.source, 0);
	return apply_plan_deep_meta(visit, &step.place);
}

/* About how much of it has to be copied. */
static uint64_t apply_plan_bytes(const struct apply_visit *visit)
{
	const struct apply *apply = visit->apply;
	const struct statx *st = &visit->up.st;

	if (!S_ISREG(st->stx_mode) || apply->upper_mount == apply->dest_mount)
		return 0;
	return MIN((uint64_t)st->stx_size, (uint64_t)st->stx_blocks * 512);
}

int apply_plan_file(struct apply_visit *visit)
{
	int r = 0;

	if (visit->step.is_there) {
		r = apply_check_visit(visit);
		if (r == 0 && S_ISDIR(visit->step.low.st.stx_mode))
			r = apply_check_hidden(visit);
	}
	if (r < 0)
		return r;
	if (visit->up.owner.marks && !visit->apply->is_root_user && visit->step.is_there)
		return apply_fail(visit->apply, -ENOTSUP,
				  "%s belongs to somebody else, to whom only root can give the "
				  "changed file: have it committed as root",
				  visit->path);
	if (visit->up.is_metacopy)
		return apply_plan_meta(visit);
	visit->apply->dirs[visit->dir].is_written = true;
	apply_tell(visit->apply, visit->step.is_there ? APPLY_REPLACE : APPLY_ADD, visit->path,
		   NULL, apply_plan_bytes(visit));
	return 0;
}

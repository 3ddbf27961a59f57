/* SPDX-License-Identifier: MIT */
/*
 * What a name of the upper leads to in the destination and below it, by the
 * rules of docs/format.md "Lookup". A plain destination has nothing below, and
 * no marks in it mean anything but whiteouts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "format/redirect.h"
#include "offline/apply_internal.h"
#include "offline/view.h"
#include "sys/file.h"

void apply_step_deinit(struct apply_step *step)
{
	apply_place_deinit(&step->place);
	entry_deinit(&step->low);
}

/* Whether the directory has a name of the form that images use. */
static int apply_has_wh(int dirfd, const char *name)
{
	char wh[WHITEOUT_PREFIX_LENGTH + NAME_MAX + 1];
	struct statx st;

	if (snprintf(wh, sizeof(wh), WHITEOUT_PREFIX "%s", name) > NAME_MAX)
		return 0;
	int r = sys_stat(dirfd, wh, &st);

	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

static int apply_has_opaque_name(int dirfd, const char *name)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);
	struct statx st;
	int r = fd < 0 ? fd : sys_stat(fd, WHITEOUT_OPAQUE_NAME, &st);

	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

/* Sets step->place.below of an object of the destination that goes on further below. */
static int apply_step_go_on(const struct apply_place *parent, const char *name,
			    struct apply_step *step)
{
	const char *redirect = step->low.redirect;
	char **below = &step->place.below;

	if (redirect && redirect_is_absolute(redirect))
		*below = strdup(redirect + 1);
	else if (!parent->below)
		return 0;
	else
		*below = apply_join(parent->below, redirect ? redirect : name);
	return *below ? 0 : -ENOMEM;
}

/* The destination has the object. */
static int apply_step_found(struct apply *apply, int dirfd, const struct apply_place *parent,
			    const char *name, struct apply_step *step)
{
	const struct entry *low = &step->low;

	step->is_there = true;
	step->place.source = apply_join(parent->source, name);
	if (!step->place.source)
		return -ENOMEM;
	if (!apply->config->target->cross_mounts && sys_stat_is_mount_root(&low->st))
		return apply_fail(apply, -EBUSY, "something is mounted on %s/%s: unmount it first",
				  apply->dest, step->place.source);
	if (!apply->stays_layer)
		return 0;
	if (low->has_bad_redirect)
		return apply_fail(apply, -ENOTSUP,
				  "the redirect of %s/%s is damaged: have veneer fsck repair it",
				  apply->dest, step->place.source);
	if (S_ISDIR(low->st.stx_mode)) {
		int r = low->opaque == OPAQUE_YES ? 1 : apply_has_opaque_name(dirfd, name);

		return r < 0 ? r : r > 0 ? 0 : apply_step_go_on(parent, name, step);
	}
	return low->is_metacopy ? apply_step_go_on(parent, name, step) : 0;
}

int apply_step(struct apply *apply, int dirfd, const struct apply_place *parent, const char *name,
	       struct apply_step *step)
{
	*step = APPLY_STEP_INIT;
	if (dirfd >= 0) {
		int r = entry_read(dirfd, name, apply->ns, &step->low);

		if (r == 0 && step->low.is_whiteout) {
			step->is_whiteout = true;
			return 0;
		}
		if (r == 0)
			return apply_step_found(apply, dirfd, parent, name, step);
		if (r != -ENOENT)
			return apply_fail_path(apply, r, "look at", name);
		r = apply->stays_layer ? apply_has_wh(dirfd, name) : 0;
		step->is_whiteout = r > 0;
		if (r != 0)
			return r < 0 ? r : 0;
	}
	if (!parent->below)
		return 0;
	step->place.below = apply_join(parent->below, name);
	return step->place.below ? 0 : -ENOMEM;
}

/* Goes one component on from where *@step is. */
static int apply_resolve_component(struct apply *apply, const char *name, struct apply_step *step)
{
	struct apply_step next;
	_cleanup_close_ int dirfd = -1;

	/* Nothing is below what is no directory. */
	if (step->is_there && !S_ISDIR(step->low.st.stx_mode)) {
		apply_step_deinit(step);
		*step = APPLY_STEP_INIT;
		return 0;
	}
	if (step->place.source) {
		dirfd = apply_open_dir(apply->dest_fd, step->place.source);
		if (dirfd < 0)
			return apply_fail_path(apply, dirfd, "open", step->place.source);
	}
	int r = apply_step(apply, dirfd, &step->place, name, &next);

	apply_step_deinit(step);
	*step = next;
	return r;
}

int apply_resolve(struct apply *apply, int dirfd, const struct apply_place *parent,
		  const char *redirect, struct apply_step *step)
{
	const char *component;
	size_t length;
	int r = 0;

	if (!redirect_is_absolute(redirect))
		return apply_step(apply, dirfd, parent, redirect, step);
	*step = APPLY_STEP_INIT;
	step->place.source = strdup("");
	step->place.below = apply->stays_layer ? strdup("") : NULL;
	if (!step->place.source || (apply->stays_layer && !step->place.below))
		return -ENOMEM;
	while (r == 0 && (length = redirect_next(&redirect, &component)) > 0) {
		char name[NAME_MAX + 1];

		snprintf(name, sizeof(name), "%.*s", (int)length, component);
		r = apply_resolve_component(apply, name, step);
	}
	return r;
}

int apply_below_has(struct apply *apply, const char *path)
{
	_cleanup_free_ char *absolute = NULL;
	struct core_entry found;

	if (!apply->below)
		return 0;
	if (asprintf(&absolute, "/%s", path) < 0)
		return -ENOMEM;
	int r = view_lookup(apply->below, absolute, &found);

	if (r < 0)
		return apply_fail_path(apply, r, "look below the destination for", path);
	if (found.node == 0)
		return 0;
	if (found.node != CORE_ROOT)
		core_forget(apply->below, found.node, 1);
	return 1;
}

int apply_mark(const struct apply_place *parent, const char *name, const char *below,
	       bool *is_opaque, char **redirect)
{
	_cleanup_free_ char *same = NULL;
	size_t length;

	*is_opaque = !below && parent->below;
	*redirect = NULL;
	if (!below)
		return 0;
	if (parent->below) {
		same = apply_join(parent->below, name);
		if (!same)
			return -ENOMEM;
		if (strcmp(same, below) == 0)
			return 0;
		/* Beside it: a name is enough. */
		length = strlen(parent->below);
		const char *base = apply_basename(below);

		if ((length == 0 && base == below) ||
		    (length > 0 && (size_t)(base - below) == length + 1 &&
		     strncmp(below, parent->below, length) == 0))
			return apply_copy_path(base, redirect);
	}
	return asprintf(redirect, "/%s", below) < 0 ? -ENOMEM : 0;
}

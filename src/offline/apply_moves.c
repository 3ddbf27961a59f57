/* SPDX-License-Identifier: MIT */
/*
 * What the union shows elsewhere than the destination has it.
 *
 * All of it is moved to staging names first, the deepest first, and from there
 * to its new place in the course of the merge. So directories that swapped
 * their names, or moved into each other, need no thought.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "offline/apply_internal.h"
#include "sys/file.h"
#include "sys/mount.h"

/* The nearest directory of the upper that merges with a directory @source lies in. */
static int apply_find_above(struct apply *apply, const char *source, size_t *dir, size_t *length)
{
	_cleanup_free_ char *part = strdup(source);

	if (!part)
		return -ENOMEM;
	for (;;) {
		char *slash = strrchr(part, '/');

		*(slash ? slash : part) = '\0';
		*dir = apply_find_by_source(apply, part);
		*length = strlen(part);
		if (*dir != APPLY_NONE || !*part)
			return 0;
	}
}

int apply_find_shown(struct apply *apply, const char *source, char **path)
{
	size_t dir, length, end;
	struct statx st;
	int r = apply_find_above(apply, source, &dir, &length);

	*path = NULL;
	if (r < 0 || dir == APPLY_NONE)
		return r;
	const char *rest = source + length + (length > 0);

	end = strcspn(rest, "/");
	_cleanup_free_ char *first = strndup(rest, end);
	_cleanup_close_ int fd = apply_open_dir(apply->upper_fd, apply->dirs[dir].path);

	if (!first || fd < 0)
		return first ? fd : -ENOMEM;
	r = sys_stat(fd, first, &st);
	if (r != -ENOENT)
		return r; /* what the upper has there is something else */
	*path = apply_join(apply->dirs[dir].path, rest);
	return *path ? 0 : -ENOMEM;
}

/* ---- order ---- */

/* What lies deeper comes first: so the same sort finds doubles, and an order for moving. */
static int apply_compare_moves(const void *a, const void *b, void *context)
{
	const struct apply *apply = context;
	const char *one = apply->moves[*(const size_t *)a].source;
	const char *two = apply->moves[*(const size_t *)b].source;
	size_t length_one = strlen(one), length_two = strlen(two);

	if (length_one != length_two)
		return length_one > length_two ? -1 : 1;
	return strcmp(one, two);
}

/* Points everything that uses move @from to @to. */
static void apply_renumber(struct apply *apply, const size_t *numbers)
{
	for (size_t i = 0; i < apply->dir_count; i++)
		if (apply->dirs[i].move != APPLY_NONE)
			apply->dirs[i].move = numbers[apply->dirs[i].move];
	for (size_t i = 0; i < apply->meta_count; i++)
		if (apply->metas[i].move != APPLY_NONE)
			apply->metas[i].move = numbers[apply->metas[i].move];
}

/* Takes the moves in @order over, several names of one file as one move. */
static int apply_take_order(struct apply *apply, const size_t *order, size_t *numbers,
			    struct apply_move *sorted, size_t *count)
{
	for (size_t i = 0; i < apply->move_count; i++) {
		struct apply_move *move = &apply->moves[order[i]];
		struct apply_move *last = *count > 0 ? &sorted[*count - 1] : NULL;

		if (last && !strcmp(last->source, move->source)) {
			if (move->is_dir || last->upper_ino != move->upper_ino)
				return apply_fail(apply, -ENOTSUP,
						  "%s/%s is shown in two places: have veneer "
						  "fsck repair the layer",
						  apply->dest, move->source);
			free(ptr_take(move->source));
		} else {
			sorted[(*count)++] = *move;
			move->source = NULL;
		}
		numbers[order[i]] = *count - 1;
	}
	return 0;
}

static int apply_sort_moves(struct apply *apply)
{
	size_t count = 0;
	_cleanup_free_ size_t *order = calloc(apply->move_count + 1, sizeof(*order));
	_cleanup_free_ size_t *numbers = calloc(apply->move_count + 1, sizeof(*numbers));
	struct apply_move *sorted = calloc(apply->move_count + 1, sizeof(*sorted));

	if (!order || !numbers || !sorted) {
		free(sorted);
		return -ENOMEM;
	}
	for (size_t i = 0; i < apply->move_count; i++)
		order[i] = i;
	qsort_r(order, apply->move_count, sizeof(*order), apply_compare_moves, apply);
	int r = apply_take_order(apply, order, numbers, sorted, &count);

	/* Sources that were not taken over are still in the old array. */
	for (size_t i = 0; i < apply->move_count; i++)
		free(apply->moves[i].source);
	free(apply->moves);
	apply->moves = sorted;
	apply->move_count = count;
	apply_renumber(apply, numbers);
	return r;
}

/* A file whose data one name of it has here and another one brings: it is brought to both. */
static void apply_move_metas(struct apply *apply)
{
	for (size_t i = 0; i < apply->meta_count; i++) {
		struct apply_meta *meta = &apply->metas[i];

		for (size_t k = 0; meta->kind == APPLY_META_HERE && k < apply->move_count; k++) {
			if (strcmp(apply->moves[k].source, meta->source) != 0)
				continue;
			meta->kind = APPLY_META_MOVED;
			meta->move = k;
		}
	}
}

/* ---- stages ---- */

/* Within which a rename is possible: one mount, and of its file system one subvolume. */
struct apply_room {
	unsigned long long mount;
	dev_t dev;
};

static bool apply_is_same_room(const struct apply_room *a, const struct apply_room *b)
{
	return a->mount == b->mount && a->dev == b->dev;
}

/* That of the directory @source of the destination. */
static int apply_room_of(struct apply *apply, const char *source, struct apply_room *room)
{
	_cleanup_close_ int fd = apply_open_at(apply->dest_fd, source, O_PATH | O_DIRECTORY);
	struct statx st;
	int r = fd < 0 ? fd : sys_mount_id(fd, &room->mount);

	if (r == 0)
		r = sys_stat(fd, "", &st);
	if (r == 0)
		room->dev = sys_stat_dev(&st);
	return r;
}

/* Whether things can be put there meanwhile: it stays where it is, and may be written. */
static bool apply_is_fit_for_stages(struct apply *apply, const char *path)
{
	_cleanup_close_ int fd = apply_open_at(apply->dest_fd, path, O_PATH | O_DIRECTORY);
	size_t dir = apply_find_by_source(apply, path);

	return fd >= 0 && dir != APPLY_NONE && strcmp(apply->dirs[dir].path, path) == 0 &&
	       sys_may_access(fd, "", W_OK | X_OK);
}

/* The topmost directory in the room of @source that is fit for it; -EACCES: there is none. */
static int apply_find_top(struct apply *apply, const char *source, char **top,
			  struct apply_room *room)
{
	_cleanup_free_ char *at = apply_parent(source);
	int r = at ? apply_room_of(apply, at, room) : -ENOMEM;
	struct apply_room here = *room;

	while (r == 0 && apply_is_same_room(&here, room)) {
		if (apply_is_fit_for_stages(apply, at)) {
			free(*top);
			*top = strdup(at);
			if (!*top)
				return -ENOMEM;
		}
		if (!*at)
			break;
		char *parent = apply_parent(at);

		free(at);
		at = parent;
		r = parent ? apply_room_of(apply, parent, &here) : -ENOMEM;
	}
	return r < 0 ? r : *top ? 0 : -EACCES;
}

/* Of the directory of the plan, or where it will be made. */
static int apply_room_of_dir(struct apply *apply, size_t dir, struct apply_room *room)
{
	while (!apply->dirs[dir].place.source && dir != 0)
		dir = apply->dirs[dir].parent;
	return apply_room_of(apply, apply->dirs[dir].place.source, room);
}

static int apply_name_stage(struct apply *apply, size_t number)
{
	struct apply_move *move = &apply->moves[number];
	_cleanup_free_ char *top = NULL;
	char name[NAME_MAX];
	struct apply_room room = { 0 }, to;
	int r = apply_find_top(apply, move->source, &top, &room);

	if (r == -EACCES)
		return apply_fail(apply, -ENOTSUP,
				  "%s/%s was renamed, and no directory above it that stays in its "
				  "place may be written: have it committed as root",
				  apply->dest, move->source);
	if (r == 0)
		r = apply_room_of_dir(apply, move->to_dir, &to);
	if (r < 0)
		return apply_fail_path(apply, r, "look at", move->source);
	if (!apply_is_same_room(&room, &to))
		return apply_fail(
			apply, -ENOTSUP,
			"%s/%s was moved to another file system or subvolume, to which it "
			"cannot be moved below: move it back, or replace it by a copy",
			apply->dest, move->source);
	snprintf(name, sizeof(name), APPLY_STAGE, apply->id, number);
	move->stage = apply_join(top, name);
	return move->stage ? 0 : -ENOMEM;
}

/* What is moved must be nowhere else. */
static int apply_check_move(struct apply *apply, const struct apply_move *move)
{
	_cleanup_free_ char *shown = NULL;
	int r = move->is_linked ? 0 : apply_find_shown(apply, move->source, &shown);

	if (r < 0)
		return apply_fail_path(apply, r, "look at", move->source);
	return shown ? apply_fail(apply, -ENOTSUP,
				  "%s was renamed, and is still there: have veneer fsck repair the "
				  "layer",
				  shown) :
		       0;
}

int apply_plan_moves(struct apply *apply)
{
	int r = apply_sort_moves(apply);

	if (r == 0 && apply->move_count > 0)
		apply_move_metas(apply);
	for (size_t i = 0; r == 0 && i < apply->move_count; i++) {
		r = apply_check_move(apply, &apply->moves[i]);
		if (r == 0)
			r = apply_name_stage(apply, i);
	}
	return r;
}

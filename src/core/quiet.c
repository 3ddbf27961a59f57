/* SPDX-License-Identifier: MIT */
#include "core/quiet.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "core/clone.h"
#include "core/place.h"
#include "core/upper.h"
#include "sys/file.h"
#include "sys/xattr.h"

/*
 * Writing the attribute changes the change time itself, so the attribute says until when a change
 * is that one: long enough for it to happen, too short for anybody else to come in between.
 */
#define QUIET_SPAN_NS 100000000
#define QUIET_TRIES 3

static bool quiet_is_later(const struct statx_timestamp *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : (long)a->tv_nsec > b->tv_nsec;
}

static struct timespec quiet_stamp(const struct statx_timestamp *stamp)
{
	return (struct timespec){ .tv_sec = stamp->tv_sec, .tv_nsec = stamp->tv_nsec };
}

/* The end of the time in which a change that is made now happens. */
static struct timespec quiet_until(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_nsec += QUIET_SPAN_NS;
	if (now.tv_nsec >= 1000000000) {
		now.tv_nsec -= 1000000000;
		now.tv_sec++;
	}
	return now;
}

static bool quiet_is_over(const struct timespec *until)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec != until->tv_sec ? now.tv_sec > until->tv_sec :
					     now.tv_nsec > until->tv_nsec;
}

/* ---- the attribute ---- */

static void quiet_write(struct core *core, int fd, const struct times *times)
{
	uint8_t value[TIMES_SIZE];

	if (!times->has_birth && !times->has_change) {
		upper_removexattr(fd, core_key(core, XATTR_TIMES));
		return;
	}
	times_encode(times, value);
	upper_setxattr(fd, core_key(core, XATTR_TIMES), value, sizeof(value), 0);
}

/* With the end of the span in which it is written, which goes to @until. */
static void quiet_write_change(struct core *core, int fd, struct times *times)
{
	struct statx st;

	for (int i = 0; i < QUIET_TRIES; i++) {
		times->until = quiet_until();
		quiet_write(core, fd, times);
		if (sys_stat(fd, "", &st) < 0 || !quiet_is_later(&st.stx_ctime, &times->until))
			return;
	}
}

/* What is kept of a directory in the upper is read when it is first needed. */
static enum quiet_state quiet_load(struct core *core, struct node *dir)
{
	enum quiet_state state = atomic_load(&dir->dir->quiet);
	struct times times = { 0 };
	uint8_t value[TIMES_SIZE];

	if (state != QUIET_UNKNOWN)
		return state;
	int fd = ldir_pin(&core->fds, dir->dir->upper);

	if (fd < 0)
		return QUIET_UNKNOWN;
	ssize_t size = sys_getxattr(fd, core_key(core, XATTR_TIMES), value, sizeof(value));

	ldir_unpin(dir->dir->upper);
	if (size > 0)
		times_decode(value, (size_t)size, &times);
	node_lock(core, dir);
	if (atomic_load(&dir->dir->quiet) == QUIET_UNKNOWN) {
		dir->dir->times = times;
		atomic_store(&dir->dir->quiet, times.has_change ? QUIET_HIDES : QUIET_NONE);
	}
	state = atomic_load(&dir->dir->quiet);
	node_unlock(core, dir);
	return state;
}

void quiet_keep(struct core *core, int fd, const struct statx *st)
{
	struct times times = {
		.has_birth = st->stx_mask & STATX_BTIME,
		.birth = quiet_stamp(&st->stx_btime),
		.has_change = S_ISDIR(st->stx_mode),
		.change = quiet_stamp(&st->stx_ctime),
	};

	if (times.has_change)
		quiet_write_change(core, fd, &times);
	else if (times.has_birth)
		quiet_write(core, fd, &times);
}

/* ---- what is shown ---- */

void quiet_present_change(struct core *core, struct node *dir, struct statx *st)
{
	if (!node_has(dir, NODE_UPPER) || quiet_load(core, dir) != QUIET_HIDES)
		return;
	node_lock(core, dir);
	if (atomic_load(&dir->dir->quiet) == QUIET_HIDES &&
	    !quiet_is_later(&st->stx_ctime, &dir->dir->times.until))
		st->stx_ctime = (struct statx_timestamp){
			.tv_sec = dir->dir->times.change.tv_sec,
			.tv_nsec = (uint32_t)dir->dir->times.change.tv_nsec,
		};
	node_unlock(core, dir);
}

/* Of a file whose data is in a lower, the data. */
static void quiet_present_birth_of_data(struct core *core, struct node *node, struct statx *st)
{
	struct place place;
	struct statx data;

	if (place_hold(core, node, PLACE_DATA, &place) < 0)
		return;
	if (place_stat(&place, &data) == 0 && data.stx_mask & STATX_BTIME) {
		st->stx_mask |= STATX_BTIME;
		st->stx_btime = data.stx_btime;
	}
	place_release(core, &place);
}

void quiet_present_birth(struct core *core, struct node *node, struct statx *st)
{
	struct place place;
	struct times times;
	uint8_t value[TIMES_SIZE];

	if (!node_has(node, NODE_UPPER) || place_hold(core, node, PLACE_META, &place) < 0)
		return;
	ssize_t size = sys_getxattr_at(place.dirfd, place.name, core_key(core, XATTR_TIMES), value,
				       sizeof(value));

	place_release(core, &place);
	if (size <= 0 || times_decode(value, (size_t)size, &times) < 0 || !times.has_birth) {
		if (node_has(node, NODE_METACOPY))
			quiet_present_birth_of_data(core, node, st);
		return;
	}
	st->stx_mask |= STATX_BTIME;
	st->stx_btime = (struct statx_timestamp){
		.tv_sec = times.birth.tv_sec,
		.tv_nsec = (uint32_t)times.birth.tv_nsec,
	};
}

/* ---- changes ---- */

int quiet_begin(struct core *core, struct node *dir, int fd, struct quiet *quiet)
{
	const struct timespec never = { .tv_sec = INT64_MAX };
	struct node_dir *inner = dir->dir;
	uint32_t changes;

	quiet_load(core, dir);
	do { /* attributes are changed without the directory's lock */
		changes = atomic_load(&inner->changes);
		int r = sys_stat(fd, "", &quiet->before);

		if (r < 0)
			return r;
		quiet_present_change(core, dir, &quiet->before);
		node_lock(core, dir);
		if (changes == atomic_load(&inner->changes))
			break;
		node_unlock(core, dir);
	} while (true);
	quiet->dir = dir;
	quiet->fd = fd;
	quiet->state = atomic_load(&inner->quiet);
	quiet->times = inner->times;
	inner->times.has_change = true;
	inner->times.change = quiet_stamp(&quiet->before.stx_ctime);
	inner->times.until = never;
	atomic_store(&inner->quiet, QUIET_HIDES);
	node_unlock(core, dir);
	return 0;
}

/* Takes @times over, unless the directory was really changed meanwhile. */
static bool quiet_settle(struct core *core, struct node *dir, enum quiet_state state,
			 const struct times *times)
{
	node_lock(core, dir);
	bool hides = atomic_load(&dir->dir->quiet) == QUIET_HIDES;

	if (hides) {
		dir->dir->times = *times;
		atomic_store(&dir->dir->quiet, state);
	}
	node_unlock(core, dir);
	return hides;
}

int quiet_end(struct core *core, struct quiet *quiet, bool done)
{
	struct times times = quiet->times;

	if (!done) {
		quiet_settle(core, quiet->dir, quiet->state, &quiet->times);
		return 0;
	}
	int r = clone_stat_times(quiet->fd, &quiet->before);

	times.has_change = true;
	times.change = quiet_stamp(&quiet->before.stx_ctime);
	quiet_write_change(core, quiet->fd, &times);
	if (!quiet_settle(core, quiet->dir, QUIET_HIDES, &times)) {
		times.has_change = false;
		quiet_write(core, quiet->fd, &times);
	}
	return r;
}

void quiet_changed(struct core *core, struct node *dir)
{
	struct node_dir *inner = dir->dir;

	atomic_fetch_add(&inner->changes, 1);
	if (!node_has(dir, NODE_UPPER) || quiet_load(core, dir) != QUIET_HIDES)
		return;
	node_lock(core, dir);
	struct times times = inner->times;

	inner->times.has_change = false;
	atomic_store(&inner->quiet, QUIET_NONE);
	node_unlock(core, dir);
	/* The change itself says on disk that the kept time is over, unless it was that fast. */
	if (times.until.tv_sec != INT64_MAX && quiet_is_over(&times.until))
		return;
	int fd = ldir_pin(&core->fds, inner->upper);

	if (fd < 0)
		return;
	times.has_change = false;
	quiet_write(core, fd, &times);
	ldir_unpin(inner->upper);
}

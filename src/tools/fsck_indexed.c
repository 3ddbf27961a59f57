/* SPDX-License-Identifier: MIT */
#include "tools/fsck_indexed.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "format/nlink.h"
#include "format/whiteout.h"
#include "sys/file.h"
#include "tools/fsck_origin.h"

/* What there is to count by. */
struct fsck_count {
	int64_t said; /* by the attribute */
	uint32_t names; /* in the upper */
	uint32_t lower; /* links of the lower file; 0: not known */
};

/* Links of the file below that the entry is named after; 0: not known. */
static uint32_t fsck_indexed_lower(const struct fsck_object *entry)
{
	_cleanup_close_ int fd = -1;
	struct origin origin;
	struct statx st;

	if (!origin_from_index_name(entry->name, &origin) ||
	    fsck_origin_judge(entry->fsck, &origin, entry->st.stx_mode, &fd) != FSCK_ORIGIN_GOOD ||
	    fd < 0 || sys_stat(fd, "", &st) < 0)
		return 0;
	return st.stx_nlink;
}

/*
 * Names of the union are at least those in the upper, and at most those and all of the lower's, which
 * may have more than the layers show. What is in between depends on names that are hidden.
 */
static bool fsck_count_is_possible(const struct fsck_count *count)
{
	if (count->said < count->names)
		return false;
	return !count->lower || count->said <= (int64_t)count->names + count->lower;
}

/* One too many keeps the entry for longer than needed; one too few would lose it. */
static int fsck_indexed_write(struct fsck_object *entry, const struct fsck_count *count)
{
	char value[NLINK_SIZE_MAX];
	int64_t total = MAX((int64_t)count->names, (int64_t)count->lower);
	const struct nlink nlink = {
		.of_upper = true,
		.delta = (int)(MAX(total, (int64_t)1) - entry->st.stx_nlink),
	};

	return fsck_object_set(entry, XATTR_NLINK, value, nlink_encode(&nlink, value));
}

static void fsck_indexed_repair(struct fsck_object *entry, const struct fsck_count *count,
				enum fsck_problem problem, const char *value)
{
	if (fsck_object_find(entry, problem, value))
		fsck_settle(entry->fsck, fsck_indexed_write(entry, count));
}

void fsck_indexed_check_count(struct fsck_object *entry)
{
	char value[FSCK_VALUE_MAX + 1];
	struct nlink nlink;

	if (S_ISDIR(entry->st.stx_mode) || !fsck_object_has(entry, XATTR_NLINK) ||
	    whiteout_is_device(entry->st.stx_mode, sys_stat_rdev(&entry->st)))
		return;
	ssize_t size = fsck_object_get(entry, XATTR_NLINK, value);
	struct fsck_count count = {
		.names = fsck_indexed_names(entry->fsck, &entry->st),
		.lower = fsck_indexed_lower(entry),
	};

	if (size < 0 || nlink_decode(value, (size_t)size, &nlink) < 0) {
		fsck_indexed_repair(entry, &count, FSCK_NLINK_DAMAGED, size < 0 ? NULL : value);
		return;
	}
	if (!nlink.of_upper && !count.lower)
		return;
	count.said = (int64_t)(nlink.of_upper ? entry->st.stx_nlink : count.lower) + nlink.delta;
	if (!fsck_count_is_possible(&count))
		fsck_indexed_repair(entry, &count, FSCK_NLINK_WRONG, value);
	else if (count.said == 0 && entry->st.stx_nlink == 1 &&
		 fsck_object_find(entry, FSCK_INDEX_ORPHAN, NULL))
		fsck_settle(entry->fsck, fsck_object_unlink(entry));
}

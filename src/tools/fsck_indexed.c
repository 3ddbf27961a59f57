/* SPDX-License-Identifier: MIT */
#include "tools/fsck_indexed.h"

#include <errno.h>

#include "base/util.h"
#include "format/nlink.h"

/*
 * Names of the union are at least those in the upper and those that it shows of the lower, and at most
 * those in the upper and all of the lower's, of which the layers may not show every one.
 */
static int64_t fsck_indexed_least(const struct fsck_indexed *indexed)
{
	return (int64_t)indexed->names + indexed->shown;
}

static bool fsck_indexed_is_possible(const struct fsck_indexed *indexed, int64_t said)
{
	if (said < fsck_indexed_least(indexed))
		return false;
	return !indexed->lower_links || said <= (int64_t)indexed->names + indexed->lower_links;
}

/* One too many keeps the entry for longer than needed; one too few would lose it. */
static int fsck_indexed_write(struct fsck_object *entry, const struct fsck_indexed *indexed)
{
	char value[NLINK_SIZE_MAX];
	int64_t total = MAX(fsck_indexed_least(indexed), (int64_t)indexed->lower_links);
	const struct nlink nlink = {
		.of_upper = true,
		.delta = (int)(MAX(total, (int64_t)1) - entry->st.stx_nlink),
	};

	return fsck_object_set(entry, XATTR_NLINK, value, nlink_encode(&nlink, value));
}

static void fsck_indexed_repair(struct fsck_object *entry, const struct fsck_indexed *indexed,
				enum fsck_problem problem, const char *value)
{
	if (fsck_object_find(entry, problem, value))
		fsck_settle(entry->fsck, fsck_indexed_write(entry, indexed));
}

void fsck_indexed_check_count(struct fsck_object *entry)
{
	const struct fsck_indexed *indexed = fsck_index_find(entry->fsck, &entry->st);
	char value[FSCK_VALUE_MAX + 1];
	struct nlink nlink;

	if (!indexed || !fsck_object_has(entry, XATTR_NLINK))
		return;
	ssize_t size = fsck_object_get(entry, XATTR_NLINK, value);

	if (size < 0 || nlink_decode(value, (size_t)size, &nlink) < 0) {
		fsck_indexed_repair(entry, indexed, FSCK_NLINK_DAMAGED, size < 0 ? NULL : value);
		return;
	}
	if (!nlink.of_upper && !indexed->lower_links)
		return;
	int64_t said = (int64_t)(nlink.of_upper ? entry->st.stx_nlink : indexed->lower_links) +
		       nlink.delta;

	if (!fsck_indexed_is_possible(indexed, said))
		fsck_indexed_repair(entry, indexed, FSCK_NLINK_WRONG, value);
	else if (said == 0 && entry->st.stx_nlink == 1 &&
		 fsck_object_find(entry, FSCK_INDEX_ORPHAN, NULL))
		fsck_settle(entry->fsck, fsck_object_unlink(entry));
}

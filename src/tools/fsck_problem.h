/* SPDX-License-Identifier: MIT */
/* What fsck may find in a layer, and what it does about it. docs/fsck.md argues each. */
#ifndef VENEER_TOOLS_FSCK_PROBLEM_H
#define VENEER_TOOLS_FSCK_PROBLEM_H

#include <stdbool.h>

enum fsck_problem {
	FSCK_WHITEOUT_ORPHAN,
	FSCK_WHITEOUT_OPAQUE,
	FSCK_WHITEOUT_UNLISTED,
	FSCK_WHITEOUT_NAME,
	FSCK_OPAQUE_UNUSED,
	FSCK_REDIRECT_MALFORMED,
	FSCK_REDIRECT_MISSING,
	FSCK_REDIRECT_OPAQUE,
	FSCK_REDIRECT_DOUBLED,
	FSCK_REDIRECT_VISIBLE,
	FSCK_REDIRECT_MERGED,
	FSCK_METACOPY_DAMAGED,
	FSCK_METACOPY_EMPTY,
	FSCK_METACOPY_FOUND,
	FSCK_METACOPY_LOST,
	FSCK_IMPURE_MISSING,
	FSCK_ORIGIN_DAMAGED,
	FSCK_ORIGIN_FOREIGN,
	FSCK_ORIGIN_STALE,
	FSCK_ORIGIN_DOUBLED,
	FSCK_ORIGIN_ROOT,
	FSCK_ATTRIBUTE_MISPLACED,
	FSCK_ATTRIBUTE_DAMAGED,
	FSCK_ATTRIBUTE_NAMESPACE,
	FSCK_PROTATTR_UNKNOWN,
	FSCK_INDEX_UPPER,
	FSCK_INDEX_REMAINS,
	FSCK_INDEX_NAME,
	FSCK_INDEX_ORIGIN,
	FSCK_INDEX_STALE,
	FSCK_INDEX_ORPHAN,
	FSCK_INDEX_DIRECTORY,
	FSCK_NLINK_DAMAGED,
	FSCK_NLINK_WRONG,
	FSCK_TABLE_ENTRY,
	FSCK_TABLE_GONE,
	FSCK_WORK_REMAINS,
	FSCK_WORK_UNKNOWN,
	FSCK_WORK_VOLATILE,
	FSCK_PROBLEM_COUNT,
};

struct fsck_problem_info {
	const char *id; /* for programs */
	const char *what, *repair; /* for people */
	bool is_safe; /* -p repairs it */
	/* Judged by what is below: not by -p if that may be other lowers than the layer was made with. */
	bool by_lowers;
};

const struct fsck_problem_info *fsck_problem_info(enum fsck_problem problem);

#endif

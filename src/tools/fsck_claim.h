/* SPDX-License-Identifier: MIT */
/*
 * Redirects against each other and against what is left where they lead: a
 * directory of the lowers may show in one place of the union only.
 *
 * Each directory with a redirect that leads somewhere is a claim; the list has
 * as many entries as directories were moved.
 */
#ifndef VENEER_TOOLS_FSCK_CLAIM_H
#define VENEER_TOOLS_FSCK_CLAIM_H

#include <stddef.h>
#include <stdint.h>

struct fsck;
struct fsck_walk;

struct fsck_claim {
	uint64_t target; /* the directory of the lowers, by its number in their union */
	char *upper; /* path of the directory with the redirect, in the upper: "/a/b"; owned */
	char *lower; /* path of the target, in the lowers; owned */
};

struct fsck_claims {
	struct fsck_claim *items; /* owned; sorted for fsck_claims_check() */
	size_t count;
};

/* The directory at hand has a redirect, and merges with a directory. 0 or -ENOMEM. */
int fsck_claim_add(struct fsck_walk *walk);
/* After the walk. 0 or -errno: it could not be done. */
int fsck_claims_check(struct fsck *fsck);
/* Forgets all. */
void fsck_claims_clear(struct fsck_claims *claims);

#endif

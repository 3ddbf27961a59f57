/* SPDX-License-Identifier: MIT */
/* The layer that fsck looks at, while it does: its directories, its report, what is below. */
#ifndef VENEER_TOOLS_FSCK_LAYER_H
#define VENEER_TOOLS_FSCK_LAYER_H

#include "offline/hold.h"
#include "offline/target.h"
#include "tools/fsck_claim.h"
#include "tools/fsck_report.h"

/* What a lower says of itself, to tell whether an origin is on its file system. */
struct fsck_lower {
	int fd; /* of its root, for reading; owned */
	bool has_uuid, has_handles;
	uint8_t uuid[16];
};

/* A file of the index. */
struct fsck_indexed {
	uint64_t ino; /* its own */
	uint32_t names; /* that the upper has for it */
	uint32_t shown; /* that the union has from a lower alone, if they were counted */
	uint64_t lower; /* number of the lower file; 0: not known */
	uint32_t lower_links; /* its links; 0: not known */
};

struct fsck {
	struct target target;
	struct fsck_report report;
	struct hold hold; /* nobody mounts the layer meanwhile */
	int upper_fd; /* open for reading; the hold's */
	int work_fd; /* the same; -1: the work directory is not known */
	dev_t dev; /* of the upper */
	struct core *below; /* the lowers as a union */
	struct fsck_lower *lowers; /* owned; in the order of the target */
	size_t lower_count;
	bool can_open_handles;
	struct fsck_claims claims;
	struct fsck_set origins; /* of files that were met in this pass */
	struct fsck_indexed *indexed; /* owned; sorted by number */
	size_t indexed_count;
	bool has_changed; /* something was repaired in this pass */
};

/*
 * Opens the layer that @fsck->target names, and everything below it. Refuses one that is in use. 0 or
 * -errno with a sentence in @why. fsck_layer_close() in any case.
 */
int fsck_layer_open(struct fsck *fsck, struct strbuf *why);
void fsck_layer_close(struct fsck *fsck);

/* fsck_report_settle(), and remembers that the layer has to be looked at once more. */
void fsck_settle(struct fsck *fsck, int result);

#endif

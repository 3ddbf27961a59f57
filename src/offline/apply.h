/* SPDX-License-Identifier: MIT */
/*
 * Merging an upper into what lies below it: a plain tree, or a layer that has
 * further layers below and has to stay one.
 *
 * First everything is looked at and planned (apply_plan()), and whatever
 * cannot be done right is refused while nothing is changed. Then apply_run()
 * writes the plan into the work directory, where it also keeps others from
 * mounting the layer, moves renamed directories out of the way, merges, and
 * only then empties the upper. The upper stays whole until all is merged, so
 * that the run can be stopped at any call and done again from its start with
 * the same result (docs/crash.md has the rows).
 */
#ifndef VENEER_OFFLINE_APPLY_H
#define VENEER_OFFLINE_APPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "offline/target.h"

struct apply;

enum apply_verb {
	APPLY_ADD,
	APPLY_REPLACE,
	APPLY_CHANGE, /* attributes only */
	APPLY_MOVE, /* and attributes */
	APPLY_REMOVE,
	APPLY_HIDE, /* what is further below: the whiteout stays */
	APPLY_LINK, /* becomes one more name of a file, as it was one below */
};

struct apply_action {
	enum apply_verb verb;
	const char *path; /* in the union, without a leading slash */
	const char *from; /* of APPLY_MOVE and APPLY_REMOVE: where it was below */
	uint64_t bytes; /* of data, if it is to be copied */
};

struct apply_config {
	const struct target *target; /* with upper, work, and lowers unless @to; borrowed */
	const char *to; /* a plain tree to merge into; NULL: the layer directly below */
	bool is_held; /* by the daemon of its mount, which has the locks and waits */
	/* Called by apply_plan(): what will be done, and what others changed below, as a sentence. */
	void (*action)(void *context, const struct apply_action *action);
	void (*conflict)(void *context, const char *path, const char *what);
	/* Called by apply_run(): so many more bytes of data are copied. */
	void (*progress)(void *context, uint64_t bytes);
	void *context;
};

/*
 * Takes the locks of the layer and looks for an unfinished run. @config is borrowed until
 * apply_free(). 0, or -errno with a sentence in @why: -EBUSY, it is in use; -EINVAL, an unfinished
 * run had another destination; ...
 */
int apply_open(const struct apply_config *config, struct apply **applyp, struct strbuf *why);
/* An earlier apply_run() began and did not end. Its plan is in force: apply_plan() only loads it. */
bool apply_is_unfinished(const struct apply *apply);
/* What that has left to do, in words; "" if there is none. */
const char *apply_rest(const struct apply *apply);
/* What is merged into. */
const char *apply_dest(const struct apply *apply);
/*
 * Plans; nothing is changed. 0, or -errno with a sentence in @why that names the path: -ENOTSUP, this
 * cannot be done right. Conflicts are no error here.
 */
int apply_plan(struct apply *apply, struct strbuf *why);
/* After apply_plan(): bytes of data to be copied, about. */
uint64_t apply_bytes(const struct apply *apply);
/* Does it. 0, or -errno with a sentence in @why: running again goes on. */
int apply_run(struct apply *apply, struct strbuf *why);
/* Lets go of the locks. NULL is allowed. */
void apply_free(struct apply *apply);

static inline void apply_cleanup(struct apply **applyp)
{
	apply_free(*applyp);
}

#define _cleanup_apply_ _cleanup_(apply_cleanup)

#endif

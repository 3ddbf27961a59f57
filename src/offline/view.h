/* SPDX-License-Identifier: MIT */
/*
 * Looking at the layers of a target as a union, through core/core.h, without
 * mounting them.  Nothing is written, locked or waited for, so also while they
 * are mounted.
 */
#ifndef VENEER_OFFLINE_VIEW_H
#define VENEER_OFFLINE_VIEW_H

#include "offline/target.h"

enum view_what {
	VIEW_UNION, /* the upper over the lowers: what the mount shows */
	VIEW_LOWERS, /* what it would show without the upper */
};

/* As one who may see everything. */
extern const struct core_call view_call;

/*
 * Opens the union; the caller's with core_free(). Redirects and metacopy are followed. *@corep is
 * NULL if @what has no layers: nothing is below. 0, or -errno with a sentence in @why.
 */
int view_open(const struct target *target, enum view_what what, struct core **corep,
	      struct strbuf *why);

/*
 * The node of the absolute path @path, or 0: there is none. With a lookup reference, to be given back
 * by core_forget(node, 1), of each but CORE_ROOT. No symbolic link is followed.
 */
int view_lookup(struct core *core, const char *path, struct core_entry *entry);

#endif

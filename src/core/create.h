/* SPDX-License-Identifier: MIT */
/* New objects: what creating, linking and renaming over a name have in common. */
#ifndef VENEER_CORE_CREATE_H
#define VENEER_CORE_CREATE_H

#include "core/internal.h"

/*
 * The directory a name is to be changed in: found by id, in the upper, with its lock held for
 * writing, its upper descriptor pinned.
 */
struct target {
	struct node *dir; /* counted */
	int fd; /* of the upper directory */
	const char *name;
	bool over_whiteout; /* target_check_free(): the upper has a whiteout under the name */
};

/*
 * Finds @parent and brings it into the upper, then takes its lock. -ENOTDIR, -ENAMETOOLONG,
 * -ENOENT (removed), -EROFS, -EPERM (immutable; append-only if @removes).
 */
int target_open(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
		bool removes, struct target *target);
void target_close(struct core *core, struct target *target);
/* 0 if the name is free, with over_whiteout set; -EEXIST. */
int target_check_free(struct core *core, struct target *target);
/* The names of the directory have changed; @subdirs: by how many subdirectories. */
void target_changed(struct core *core, struct node *dir, int subdirs);

/* Finds the directory @id. -ESTALE, -ENOTDIR. */
int node_find_dir(struct core *core, uint64_t id, struct node **nodep);

#endif

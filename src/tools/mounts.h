/* SPDX-License-Identifier: MIT */
/* The mounts of FUSE that this process sees, from /proc/self/mountinfo. */
#ifndef VENEER_TOOLS_MOUNTS_H
#define VENEER_TOOLS_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct mounts_entry {
	unsigned long long id;
	dev_t dev;
	char *point, *type, *source; /* owned, as is the next */
	char *root; /* what of the file system is mounted: its path there, "/" */
	bool is_whole; /* of the file system's root, not of a directory in it */
	uid_t owner; /* who mounted it; of FUSE alone */
};

struct mounts {
	struct mounts_entry *entries; /* owned; of any type, in the order of the table */
	size_t count;
};

#define MOUNTS_INIT ((struct mounts){ 0 })

/* 0, or -errno: /proc cannot be read, or out of memory. To be deinitialised in any case. */
int mounts_read(struct mounts *mounts);
void mounts_deinit(struct mounts *mounts);

/* The mount with this id, or NULL. */
const struct mounts_entry *mounts_find(const struct mounts *mounts, unsigned long long id);
bool mounts_is_fuse(const struct mounts_entry *entry);
bool mounts_is_veneer(const struct mounts_entry *entry);
/* True for one that veneer made for this user; of several mounts of one file system for the first,
 * or the first that shows all of it. */
bool mounts_is_own(const struct mounts *mounts, const struct mounts_entry *entry);

#define _cleanup_mounts_ _cleanup_(mounts_deinit)

#endif

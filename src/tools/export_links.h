/* SPDX-License-Identifier: MIT */
/* Files with several names: which name each was written under first. */
#ifndef VENEER_TOOLS_EXPORT_LINKS_H
#define VENEER_TOOLS_EXPORT_LINKS_H

#include <stdint.h>

struct export_links {
	void *root; /* of a search tree by inode number */
};

void export_links_deinit(struct export_links *links);
/*
 * One name of the file @ino, which has @count. *@first is the first one that was given, borrowed,
 * or NULL if this is the first. 0 or -ENOMEM.
 */
int export_links_add(struct export_links *links, uint64_t ino, uint32_t count, const char *path,
		     const char **first);
/* How many files were given fewer names for than they have. */
uint64_t export_links_partial(const struct export_links *links);

#endif

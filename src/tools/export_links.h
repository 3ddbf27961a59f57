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
 * One name of the file @ino. *@first is the first one that was given, borrowed, or NULL if this is
 * the first. 0 or -ENOMEM.
 */
int export_links_add(struct export_links *links, uint64_t ino, const char *path,
		     const char **first);

#endif

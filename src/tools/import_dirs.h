/* SPDX-License-Identifier: MIT */
/* What the directories of a layer are to have once they are full: memory only. */
#ifndef VENEER_TOOLS_IMPORT_DIRS_H
#define VENEER_TOOLS_IMPORT_DIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "base/strbuf.h"

struct import_dir {
	char *place; /* owned */
	bool is_implied; /* the archive has no entry for it, only for what is in it */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
	struct strbuf xattrs; /* key, NUL, size as size_t, value; again and again */
};

struct import_dirs {
	void *root; /* of a search tree by place */
};

void import_dirs_deinit(struct import_dirs *dirs);
/* Remembers *@dir in place of what was remembered of its place; takes it over. 0 or -ENOMEM. */
int import_dirs_set(struct import_dirs *dirs, struct import_dir *dir);
/* What is remembered of @place, or NULL. */
const struct import_dir *import_dirs_find(const struct import_dirs *dirs, const char *place);
/* Nothing is remembered of @place any more. */
void import_dirs_forget(struct import_dirs *dirs, const char *place);
/* Calls @visit for each, those below before, until one is not 0; returns that. */
int import_dirs_for_each(const struct import_dirs *dirs,
			 int (*visit)(const struct import_dir *dir, void *context), void *context);

void import_dir_deinit(struct import_dir *dir);
void import_dir_add_xattr(struct import_dir *dir, const char *key, const void *value, size_t size);

struct import_dir_xattr {
	const char *key;
	const void *value;
	size_t size;
};

/* Takes the attribute at *@position, 0 at first, and advances. False: there is none any more. */
bool import_dir_next_xattr(const struct import_dir *dir, size_t *position,
			   struct import_dir_xattr *xattr);

#define _cleanup_import_dir_ _cleanup_(import_dir_deinit)

#endif

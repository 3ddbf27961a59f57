/* SPDX-License-Identifier: MIT */
/* One object of the union, written into the archive. */
#ifndef VENEER_TOOLS_EXPORT_ENTRY_H
#define VENEER_TOOLS_EXPORT_ENTRY_H

#include "core/core.h"
#include "tools/export_links.h"
#include "tools/export_walk.h"

struct export_entry {
	struct export *export;
	struct core *view; /* the union */
	struct export_links *links;
	const char *path; /* in the archive */
	const struct core_entry *object;
};

/*
 * Writes the object with all that belongs to it; of a directory not what is in it. 0 or -errno with
 * a phrase in @why that does not name it.
 */
int export_entry(const struct export_entry *entry, struct strbuf *why);
/* Writes an empty file, which is how whiteouts are told. */
int export_entry_mark(struct export *export, const char *path, struct strbuf *why);

#endif

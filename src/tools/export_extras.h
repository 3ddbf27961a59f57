/* SPDX-License-Identifier: MIT */
/*
 * Names that only lower layers have, of files that the layer changed under
 * another name: the index of the work directory leads from one to the other
 * (docs/format.md "The index").  An archive has no index, so it needs the names.
 */
#ifndef VENEER_TOOLS_EXPORT_EXTRAS_H
#define VENEER_TOOLS_EXPORT_EXTRAS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "offline/entry.h"
#include "offline/target.h"

struct export_extra {
	char *path; /* in the union, without a slash before it; owned, as is */
	char *source; /* the name that the upper has for it */
	uint64_t ino; /* of the file in the upper */
};

struct export_extras {
	struct export_extra *items; /* by the bytes of their paths; owned */
	size_t count;
};

/*
 * Finds them. Where the index says that there are some, all of the union is looked through. 0 or -errno
 * with a sentence in @why. To be deinitialised in any case.
 */
int export_extras_find(const struct target *target, struct export_extras *extras,
		       struct strbuf *why);
void export_extras_deinit(struct export_extras *extras);
/* The one with this path, or NULL. */
const struct export_extra *export_extras_get(const struct export_extras *extras, const char *path);
/* Adds to @names what leads to some of them in the directory @path ("": the root). 0 or -ENOMEM. */
int export_extras_names(const struct export_extras *extras, const char *path,
			struct entry_names *names);

#endif

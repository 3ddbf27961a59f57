/* SPDX-License-Identifier: MIT */
/* Names in an archive of an OCI layer: which place in the layer they mean. Touches nothing. */
#ifndef VENEER_TOOLS_IMPORT_PATH_H
#define VENEER_TOOLS_IMPORT_PATH_H

#include <stdbool.h>

/* What an entry of the archive is, by its name alone. */
enum import_kind {
	IMPORT_OBJECT, /* what it says it is */
	IMPORT_WHITEOUT, /* hides what lowers have under the name */
	IMPORT_OPAQUE, /* hides all that lowers have in the directory */
	IMPORT_NOTHING, /* housekeeping of aufs */
};

/*
 * Reads @path. *@place is its place in the layer, without "." and doubled slashes, "" for the
 * root: of a whiteout the hidden name, of an opaque mark the directory; the caller's. Returns 0,
 * -ENOMEM, or -EINVAL with *@why set to a constant phrase: it leads out of the layer, through a
 * whiteout, or is too long.
 */
int import_path_parse(const char *path, enum import_kind *kind, char **place, const char **why);

/* The last name of a place, within @place. */
const char *import_path_name(const char *place);

#endif

/* SPDX-License-Identifier: MIT */
#include "tools/import_path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "format/whiteout.h"

static int import_path_refuse(const char *reason, const char **why)
{
	*why = reason;
	return -EINVAL;
}

const char *import_path_name(const char *place)
{
	const char *slash = strrchr(place, '/');

	return slash ? slash + 1 : place;
}

/*
 * One name more. A whiteout changes what the whole entry is, so it must be the last name; what
 * lies in a directory of aufs' housekeeping belongs to that.
 */
static int import_path_add(struct strbuf *place, const char *name, enum import_kind *kind,
			   const char **why)
{
	if (*kind == IMPORT_NOTHING)
		return 0;
	if (*kind != IMPORT_OBJECT)
		return import_path_refuse("it leads through a whiteout", why);
	switch (whiteout_name_kind(name)) {
	case WHITEOUT_NAME_NONE:
		break;
	case WHITEOUT_NAME_OPAQUE:
		*kind = IMPORT_OPAQUE;
		return 0;
	case WHITEOUT_NAME_META:
		*kind = IMPORT_NOTHING;
		return 0;
	case WHITEOUT_NAME_HIDES:
		*kind = IMPORT_WHITEOUT;
		name += WHITEOUT_PREFIX_LENGTH;
		break;
	}
	if (strlen(name) > NAME_MAX)
		return import_path_refuse("the name is too long", why);
	if (place->length > 0)
		strbuf_append_string(place, "/");
	strbuf_append_string(place, name);
	return 0;
}

int import_path_parse(const char *path, enum import_kind *kind, char **placep, const char **why)
{
	_cleanup_strbuf_ struct strbuf place = STRBUF_INIT;
	enum import_kind found = IMPORT_OBJECT;
	char name[PATH_MAX];
	int r = 0;

	if (*path == '/')
		return import_path_refuse("the name begins with a slash", why);
	strbuf_append_string(&place, "");
	while (r == 0 && *path) {
		size_t length = strcspn(path, "/");

		/* Deeper than anybody could reach by a path, nor could it be removed. */
		if (length >= sizeof(name) || place.length + length >= PATH_MAX)
			return import_path_refuse("the name is too long", why);
		memcpy(name, path, length);
		name[length] = '\0';
		path += length + (path[length] == '/');
		if (strcmp(name, "..") == 0)
			return import_path_refuse("the name leads out of the layer (..)", why);
		if (length > 0 && strcmp(name, ".") != 0)
			r = import_path_add(&place, name, &found, why);
	}
	if (r < 0)
		return r;
	*placep = strbuf_take(&place);
	if (!*placep)
		return -ENOMEM;
	*kind = found;
	return 0;
}

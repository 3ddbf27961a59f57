/* SPDX-License-Identifier: MIT */
#include "format/whiteout.h"

#include <string.h>

#define WHITEOUT_META_PREFIX WHITEOUT_PREFIX WHITEOUT_PREFIX

bool whiteout_is_device(mode_t mode, dev_t rdev)
{
	return S_ISCHR(mode) && rdev == 0;
}

bool whiteout_may_be_xattr(mode_t mode, unsigned long long size)
{
	return S_ISREG(mode) && size == 0;
}

enum whiteout_name whiteout_name_kind(const char *name)
{
	const char *hidden = name + WHITEOUT_PREFIX_LENGTH;

	if (strncmp(name, WHITEOUT_PREFIX, WHITEOUT_PREFIX_LENGTH) != 0)
		return WHITEOUT_NAME_NONE;
	if (strcmp(name, WHITEOUT_OPAQUE_NAME) == 0)
		return WHITEOUT_NAME_OPAQUE;
	if (strncmp(name, WHITEOUT_META_PREFIX, strlen(WHITEOUT_META_PREFIX)) == 0)
		return WHITEOUT_NAME_META;
	/* Nobody can have meant to hide "", "." or "..". */
	if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
		return WHITEOUT_NAME_META;
	return WHITEOUT_NAME_HIDES;
}

enum opaque_value opaque_parse(const char *value, size_t size)
{
	if (size != 1)
		return OPAQUE_NONE;
	if (value[0] == 'y')
		return OPAQUE_YES;
	return value[0] == 'x' ? OPAQUE_XWHITEOUTS : OPAQUE_NONE;
}

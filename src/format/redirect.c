/* SPDX-License-Identifier: MIT */
#include "format/redirect.h"

#include <string.h>

/* A name a directory can hold. */
static bool redirect_is_component(const char *name, size_t length)
{
	if (length == 0 || memchr(name, '\0', length))
		return false;
	return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

bool redirect_is_valid(const char *value, size_t size)
{
	const char *end = value + size;
	const char *slash;

	if (size == 0)
		return false;
	if (value[0] != '/')
		return !memchr(value, '/', size) && redirect_is_component(value, size);
	do {
		value++;
		slash = memchr(value, '/', (size_t)(end - value));
		if (!redirect_is_component(value, (size_t)((slash ? slash : end) - value)))
			return false;
		value = slash;
	} while (slash);
	return true;
}

bool redirect_is_absolute(const char *value)
{
	return value[0] == '/';
}

size_t redirect_next(const char **cursor, const char **component)
{
	const char *start = *cursor + strspn(*cursor, "/");
	size_t length = strcspn(start, "/");

	*cursor = start + length;
	if (length > 0)
		*component = start;
	return length;
}

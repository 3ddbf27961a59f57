/* SPDX-License-Identifier: MIT */
#include "format/protattr.h"

unsigned int protattr_decode(const char *value, size_t size)
{
	unsigned int flags = 0;

	for (size_t i = 0; i < size; i++) {
		if (value[i] == 'a')
			flags |= PROTATTR_APPEND;
		else if (value[i] == 'i')
			flags |= PROTATTR_IMMUTABLE;
		else
			return 0;
	}
	return flags;
}

size_t protattr_encode(unsigned int flags, char out[PROTATTR_SIZE_MAX])
{
	size_t length = 0;

	if (flags & PROTATTR_APPEND)
		out[length++] = 'a';
	if (flags & PROTATTR_IMMUTABLE)
		out[length++] = 'i';
	return length;
}

/* SPDX-License-Identifier: MIT */
#include "format/owner.h"

#include <string.h>

/* Letter number i stands for bit number i. */
static const char owner_letters[] = "ugwr";

size_t owner_encode(unsigned int marks, char value[OWNER_SIZE_MAX])
{
	size_t size = 0;

	for (size_t i = 0; owner_letters[i]; i++)
		if (marks & 1u << i)
			value[size++] = owner_letters[i];
	return size;
}

unsigned int owner_decode(const char *value, size_t size)
{
	unsigned int marks = 0;

	for (size_t i = 0; i < size; i++) {
		const char *letter = value[i] ? strchr(owner_letters, value[i]) : NULL;

		if (letter)
			marks |= 1u << (letter - owner_letters);
	}
	return marks;
}

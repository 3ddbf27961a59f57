/* SPDX-License-Identifier: MIT */
#include "format/owner.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Letter number i stands for bit number i. */
static const char owner_letters[] = "ugwr";

size_t owner_encode(const struct owner *owner, char value[OWNER_SIZE_MAX])
{
	size_t size = 0;

	for (size_t i = 0; owner_letters[i]; i++)
		if (owner->marks & 1u << i)
			value[size++] = owner_letters[i];
	if (owner->has_ids)
		size += (size_t)snprintf(value + size, OWNER_SIZE_MAX - size,
					 "=%" PRIu32 ":%" PRIu32, owner->uid, owner->gid);
	return size;
}

/* A number, and what has to follow it; (uint32_t)-1 is nobody's. */
static bool owner_take_id(const char **text, char end, uint32_t *id)
{
	uint64_t number = 0;
	const char *at = *text;

	for (; *at >= '0' && *at <= '9' && number < UINT32_MAX; at++)
		number = 10 * number + (uint64_t)(*at - '0');
	if (at == *text || *at != end || number >= UINT32_MAX)
		return false;
	*id = (uint32_t)number;
	*text = at + 1;
	return true;
}

void owner_decode(const char *value, size_t size, struct owner *owner)
{
	char text[OWNER_SIZE_MAX + 1] = "";

	memcpy(text, value, size < OWNER_SIZE_MAX ? size : OWNER_SIZE_MAX);
	*owner = (struct owner){ 0 };
	const char *at = text;

	for (; *at && *at != '='; at++) {
		const char *letter = strchr(owner_letters, *at);

		if (letter)
			owner->marks |= 1u << (letter - owner_letters);
	}
	if (*at++ == '=')
		owner->has_ids = owner_take_id(&at, ':', &owner->uid) &&
				 owner_take_id(&at, '\0', &owner->gid);
}

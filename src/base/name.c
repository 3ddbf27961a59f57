/* SPDX-License-Identifier: MIT */
#include "base/name.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct name *name_new(const char *text, uint16_t length)
{
	struct name *name = malloc(sizeof(*name) + length + 1u);

	if (!name)
		return NULL;
	atomic_init(&name->refs, 1);
	name->length = length;
	memcpy(name->text, text, length);
	name->text[length] = '\0';
	return name;
}

struct name *name_ref(struct name *name)
{
	uint32_t before = atomic_fetch_add_explicit(&name->refs, 1, memory_order_relaxed);

	assert(before > 0);
	(void)before;
	return name;
}

struct name *name_unref(struct name *name)
{
	/* Release our reads of the text before, acquire everybody's before freeing. */
	if (name && atomic_fetch_sub_explicit(&name->refs, 1, memory_order_acq_rel) == 1)
		free(name);
	return NULL;
}

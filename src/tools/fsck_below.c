/* SPDX-License-Identifier: MIT */
#include "tools/fsck_below.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "format/redirect.h"
#include "offline/view.h"

/* Takes the reference in @entry. */
static struct fsck_below fsck_below_of(const struct core_entry *entry, int error)
{
	mode_t mode = entry->attr.stx_mode;

	if (error == -ENAMETOOLONG || (error == 0 && !entry->node))
		return FSCK_BELOW_INIT;
	if (error < 0)
		return (struct fsck_below){ .kind = FSCK_BELOW_UNKNOWN, .error = error };
	return (struct fsck_below){
		.kind = S_ISDIR(mode) ? FSCK_BELOW_DIR :
			S_ISREG(mode) ? FSCK_BELOW_REGULAR :
					FSCK_BELOW_OTHER,
		.node = entry->node,
		.ino = entry->attr.stx_ino,
	};
}

struct fsck_below fsck_below_root(struct fsck *fsck)
{
	struct core_entry entry = { .node = CORE_ROOT };

	if (!fsck->below)
		return FSCK_BELOW_INIT;
	return fsck_below_of(&entry, core_getattr(fsck->below, CORE_ROOT, &entry.attr));
}

struct fsck_below fsck_below_lookup(struct fsck *fsck, const struct fsck_below *parent,
				    const char *name)
{
	struct core_entry entry = { 0 };

	if (parent->kind == FSCK_BELOW_UNKNOWN)
		return (struct fsck_below){ .kind = FSCK_BELOW_UNKNOWN, .error = parent->error };
	if (parent->kind != FSCK_BELOW_DIR)
		return FSCK_BELOW_INIT;
	int r = core_lookup(fsck->below, &view_call, parent->node, name, &entry);

	return fsck_below_of(&entry, r);
}

struct fsck_below fsck_below_follow(struct fsck *fsck, const struct fsck_below *parent,
				    const char *redirect)
{
	const char *cursor = redirect, *component;
	size_t length;

	if (!redirect_is_absolute(redirect))
		return fsck_below_lookup(fsck, parent, redirect);
	struct fsck_below at = fsck_below_root(fsck);

	while (at.kind == FSCK_BELOW_DIR && (length = redirect_next(&cursor, &component))) {
		struct fsck_below next = FSCK_BELOW_INIT;
		char name[NAME_MAX + 1];

		if (length <= NAME_MAX) {
			memcpy(name, component, length);
			name[length] = '\0';
			next = fsck_below_lookup(fsck, &at, name);
		}
		fsck_below_put(fsck, &at);
		at = next;
	}
	/* A file on the way leads nowhere. */
	if (at.kind != FSCK_BELOW_UNKNOWN && redirect_next(&cursor, &component))
		fsck_below_put(fsck, &at);
	return at;
}

void fsck_below_put(struct fsck *fsck, struct fsck_below *below)
{
	if (below->node && below->node != CORE_ROOT)
		core_forget(fsck->below, below->node, 1);
	*below = FSCK_BELOW_INIT;
}

bool fsck_below_has_data(struct fsck *fsck, const struct fsck_below *below)
{
	int backing;
	int r = core_open(fsck->below, &view_call, below->node, O_RDONLY, &backing);

	if (r < 0)
		return false;
	core_release(fsck->below, below->node);
	return true;
}

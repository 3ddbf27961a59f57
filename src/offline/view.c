/* SPDX-License-Identifier: MIT */
#include "offline/view.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "format/redirect.h"

const struct core_call view_call = { 0 };

/* The upper as the topmost lower: one without a work directory is no upper to a union. */
static int view_stack(const struct target *target, struct lowerdir_list *lowers)
{
	int r = lowerdir_list_add(lowers, target->upper, false);

	for (size_t i = 0; r == 0 && i < target->lowers.count; i++)
		r = lowerdir_list_add(lowers, target->lowers.items[i].path,
				      target->lowers.items[i].data_only);
	return r;
}

int view_open(const struct target *target, enum view_what what, struct core **corep,
	      struct strbuf *why)
{
	struct lowerdir_list stack = { 0 };
	bool has_upper = what == VIEW_UNION && target->upper;
	bool is_stacked = has_upper && (!target->work || target->lowers.count == 0);
	struct core_config config = {
		.lowers = target->lowers,
		.redirect = CORE_REDIRECT_FOLLOW,
		.xattrs = target->ns == XATTR_USER ? CORE_XATTRS_USER : CORE_XATTRS_TRUSTED,
		.metacopy = true,
		.read_only = true,
		.unlocked = true,
		.cross_mounts = target->cross_mounts,
		.at_rest = true,
		.noatime = true,
	};
	int r = 0;

	*corep = NULL;
	if (is_stacked) {
		r = view_stack(target, &stack);
		config.lowers = stack;
	} else if (has_upper) {
		config.upperdir = target->upper;
		config.workdir = target->work;
	}
	if (r == 0 && config.lowers.count > 0)
		r = core_new(&config, corep, why);
	lowerdir_list_deinit(&stack);
	return r;
}

int view_lookup(struct core *core, const char *path, struct core_entry *entry)
{
	const char *cursor = path, *component;
	size_t length;
	int r = core_getattr(core, CORE_ROOT, &entry->attr);

	entry->node = CORE_ROOT;
	while (r == 0 && entry->node && (length = redirect_next(&cursor, &component))) {
		char name[NAME_MAX + 1];
		uint64_t parent = entry->node;

		entry->node = 0;
		if (length <= NAME_MAX && S_ISDIR(entry->attr.stx_mode)) {
			memcpy(name, component, length);
			name[length] = '\0';
			r = core_lookup(core, &view_call, parent, name, entry);
		}
		if (parent != CORE_ROOT)
			core_forget(core, parent, 1);
	}
	if (r < 0)
		entry->node = 0;
	return r;
}

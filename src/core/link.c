/* SPDX-License-Identifier: MIT */
/* Hard links: a new name for a node, which is copied up first. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/attr.h"
#include "core/copyup.h"
#include "core/create.h"
#include "core/datafd.h"
#include "core/index.h"
#include "core/place.h"
#include "core/relocate.h"
#include "core/upper.h"
#include "sys/file.h"

/* The object itself, whatever name it has by the time it is linked. */
static int link_open_source(struct core *core, struct node *node)
{
	struct place place;
	int r = place_hold(core, node, PLACE_META, &place);

	if (r < 0)
		return r;
	int fd = place_open_path(&place);

	place_release(core, &place);
	return fd;
}

/*
 * Data in a lower is found by the file's name: with two names it takes a redirect, or else the
 * data itself.
 */
static int link_complete(struct core *core, const struct core_call *call, struct node *node,
			 int source)
{
	const struct relocate_name by_first_name = { 0 };
	int r = -EXDEV;

	if (!relocate_needs_redirect(node))
		return 0;
	if (core->redirect == CORE_REDIRECT_ON) {
		lock_mutex_lock(&core->rename_lock);
		r = relocate_set_redirect(core, node, source, &by_first_name);
		lock_mutex_unlock(&core->rename_lock);
	}
	return r == -EXDEV ? copyup_node(core, call, node, COPYUP_DATA) : r;
}

static int link_make(struct core *core, int source, const struct target *target)
{
	char temp[WORKDIR_TEMP_MAX];

	if (!target->over_whiteout)
		return upper_link_fd(source, target->fd, target->name);
	workdir_temp_name(core, temp);
	int r = upper_link_fd(source, core->work.fd, temp);

	if (r < 0)
		return r;
	r = upper_rename(core->work.fd, temp, target->fd, target->name, 0);
	if (r < 0)
		workdir_discard(core, temp);
	return r;
}

/* The node may number itself after a lower: then readdir must know. */
static int link_mark_origin(struct core *core, struct node *node, struct node *dir)
{
	const struct layer *upper = &core->layers[0];

	if (node->ino == ident_ino(&core->ident, upper->dev, node->upper_ino))
		return 0;
	return copyup_mark_impure(core, dir);
}

/* From now on its names are found to be one file. */
static void link_add_identity(struct core *core, struct node *node, int source)
{
	struct statx st;

	if (sys_stat(source, "", &st) < 0)
		return; /* they are, but for this the next lookup has to ask the disk */
	struct node *first = node_add_identity(core, node, sys_stat_dev(&st), st.stx_ino);

	if (first != node)
		node_unref(core, first);
}

static int link_run(struct core *core, struct node *node, int source, struct target *target,
		    struct core_entry *entry)
{
	struct link *link = node_new_link(core, node, target->dir, target->name);

	if (!link)
		return -ENOMEM;
	int r = target_check_free(core, target);

	if (r == 0)
		r = link_mark_origin(core, node, target->dir);
	if (r == 0)
		r = index_begin(core, node);
	if (r == 0) {
		r = link_make(core, source, target);
		index_end(core, node, 1, r);
	}
	if (r < 0) {
		node_free_link(core, link);
		return r;
	}
	node_insert_link(core, link);
	datafd_release_orphan(core, node);
	link_add_identity(core, node, source);
	target_changed(core, target->dir, 0);
	node_lookup_add(core, node);
	entry->node = node->id;
	return 0;
}

int core_link(struct core *core, const struct core_call *call, uint64_t id, uint64_t parent,
	      const char *name, struct core_entry *entry)
{
	struct node *node = node_find(core, id);
	struct target target;

	if (!node)
		return -ESTALE;
	int r = node_is_dir(node) ? -EPERM : attr_check_change(node);

	if (r == 0)
		r = copyup_node(core, call, node, COPYUP_META);
	_cleanup_close_ int source = r < 0 ? r : link_open_source(core, node);

	r = source < 0 ? source : link_complete(core, call, node, source);
	if (r == 0)
		r = target_open(core, call, parent, name, false, &target);
	if (r == 0) {
		r = link_run(core, node, source, &target, entry);
		target_close(core, &target);
	}
	if (r == 0) {
		r = attr_get(core, node, &entry->attr);
		if (r < 0)
			core_forget(core, id, 1);
	}
	node_unref(core, node);
	return r;
}

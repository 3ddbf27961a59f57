/* SPDX-License-Identifier: MIT */
/* Redirects and opaque marks for objects that move. */
#include "core/relocate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/mark.h"
#include "core/upper.h"
#include "format/redirect.h"

bool relocate_needs_redirect(const struct node *node)
{
	return node_is_dir(node) ? node->dir->lower_count > 0 : node_has(node, NODE_METACOPY);
}

/* Where the node keeps its redirect; NULL: it has none and no place for one. */
static char **node_redirect(struct node *node)
{
	if (node_is_dir(node))
		return &node->dir->redirect;
	return node->file ? &node->file->redirect : NULL;
}

/* One step of the path by which lowers know the node, written to end at @end; its start, or NULL. */
static char *relocate_step(struct core *core, struct node *node, const char *name, char *begin,
			   char *end, bool *absolute)
{
	node_lock(core, node);
	char **redirect = node_redirect(node);
	const char *step = redirect && *redirect ? *redirect :
			   name			 ? name :
			   node->links		 ? node->links->name :
						   "";
	size_t size = strlen(step);

	*absolute = step[0] == '/';
	if (size == 0 || size + !*absolute > (size_t)(end - begin)) {
		end = NULL;
	} else {
		end -= size;
		memcpy(end, step, size);
		if (!*absolute)
			*--end = '/';
	}
	node_unlock(core, node);
	return end;
}

/*
 * The path by which lower layers know the node: each step by its redirect where it has one, up
 * to the root or to an absolute one.
 */
static int relocate_build(struct core *core, struct node *node, const struct relocate_name *by,
			  char path[REDIRECT_MAX + 1])
{
	char *start = path + REDIRECT_MAX;
	struct node *at = node_ref(node);
	bool done = false;

	*start = '\0';
	while (start && !done && at && at != core->root) {
		bool named = at == node && by->dir;
		struct node *parent = named ? node_ref(by->dir) : node_get_parent(core, at);

		start = relocate_step(core, at, named ? by->name : NULL, path, start, &done);
		node_unref(core, at);
		at = parent;
	}
	bool complete = start && (done || at == core->root);

	if (at)
		node_unref(core, at);
	if (!complete)
		return -EXDEV;
	memmove(path, start, strlen(start) + 1);
	return 0;
}

static int relocate_write(struct core *core, int fd, enum xattr_private which, const char *value)
{
	int r = mark_set(core, fd, which, value, strlen(value));

	return r == -EOPNOTSUPP || r == -EPERM ? -EXDEV : r;
}

int relocate_set_redirect(struct core *core, struct node *node, int fd,
			  const struct relocate_name *by)
{
	char path[REDIRECT_MAX + 1];
	char **redirect = node_redirect(node);

	if (!redirect)
		return -EXDEV;
	if (*redirect && (by->same_dir || (*redirect)[0] == '/'))
		return 0; /* it leads to the lowers from the new place as well */
	int r = 0;

	if (!by->same_dir)
		r = relocate_build(core, node, by, path);
	else if (strlen(by->name) > REDIRECT_MAX)
		r = -EXDEV;
	else
		strcpy(path, by->name);
	if (r < 0)
		return r;
	char *value = strdup(path);

	if (!value)
		return -ENOMEM;
	r = relocate_write(core, fd, XATTR_REDIRECT, path);
	if (r < 0) {
		free(value);
		return r;
	}
	node_lock(core, node);
	free(*redirect);
	*redirect = value;
	node_unlock(core, node);
	return 0;
}

int relocate_set_opaque(struct core *core, struct node *node, int fd)
{
	int r = relocate_write(core, fd, XATTR_OPAQUE, "y");

	if (r == 0)
		node->dir->opaque = true;
	return r;
}

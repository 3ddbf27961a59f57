/* SPDX-License-Identifier: MIT */
#include "offline/mergemarks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "offline/lineage.h"
#include "offline/mutate.h"
#include "sys/xattr.h"

/* ---- below the cut ---- */

static bool mergemarks_has_outer(const struct stack *stack)
{
	return stack->inner < stack->count;
}

bool mergemarks_is_below(const struct stack *stack, const struct stack_dir *dir, const char *name)
{
	_cleanup_stack_found_ struct stack_found found = STACK_FOUND_INIT;

	if (!mergemarks_has_outer(stack) || stack_dir_inner(stack, dir) == dir->count)
		return false;
	/* What cannot be told is there: to hide it again does no harm. */
	return stack_lookup(stack, dir, name, stack->inner, &found) < 0 ||
	       found.kind != STACK_NOTHING;
}

/* What has a path of its own below the cut goes on there under its own name: no redirect needed. */
static bool mergemarks_is_natural(const struct stack_dir *dir, const char *name, const char *below)
{
	size_t length = dir->below ? strlen(dir->below) : 0;

	return dir->below && !strncmp(below, dir->below, length) && below[length] == '/' &&
	       !strcmp(below + length + 1, name);
}

/* The redirect that leads from @dir to @below: a name where that will do. */
static const char *mergemarks_redirect_to(const struct stack_dir *dir, const char *below)
{
	const char *slash = strrchr(below, '/');
	size_t length = (size_t)(slash - below);
	bool is_sibling = dir->below && strlen(dir->below) == length &&
			  !strncmp(dir->below, below, length);

	return is_sibling ? slash + 1 : below;
}

static int mergemarks_set(struct merge *merge, int fd, enum xattr_private which, const char *value)
{
	return mutate_setxattr(fd, xattr_private_name(merge->stack->ns, which), value,
			       strlen(value));
}

int mergemarks_directory(struct merge *merge, const struct stack_dir *dir, const char *name,
			 const struct stack_dir *child, int fd)
{
	int r;

	if (stack_dir_inner(merge->stack, child) == child->count) {
		if (!mergemarks_is_below(merge->stack, dir, name))
			return 0;
		r = mergemarks_set(merge, fd, XATTR_OPAQUE, "y");
		merge->counts.opaque += r == 0;
		return r;
	}
	if (mergemarks_is_natural(dir, name, child->below))
		return 0;
	r = mergemarks_set(merge, fd, XATTR_REDIRECT, mergemarks_redirect_to(dir, child->below));
	merge->counts.redirects += r == 0;
	return r;
}

/* ---- metacopy ---- */

static int mergemarks_copy_value(struct merge *merge, enum xattr_private which, int from, int to)
{
	const char *key = xattr_private_name(merge->stack->ns, which);
	_cleanup_free_ char *value = NULL;
	ssize_t size = sys_getxattr_alloc(from, key, &value);

	return size < 0 ? (int)size : mutate_setxattr(to, key, value, (size_t)size);
}

int mergemarks_metacopy(struct merge *merge, const struct stack_dir *dir, const char *name,
			const struct stack_found *found, int fd)
{
	/* From a further name, or to a data-only layer, only a whole path leads. */
	bool is_whole = found->top.st.stx_nlink > 1 || found->data.layer >= merge->stack->count;
	int r = mergemarks_copy_value(merge, XATTR_METACOPY, found->top.fd, fd);

	merge->counts.metacopies += r == 0;
	if (r < 0 || (!is_whole && mergemarks_is_natural(dir, name, found->below)))
		return r;
	r = mergemarks_set(merge, fd, XATTR_REDIRECT,
			   is_whole ? found->below : mergemarks_redirect_to(dir, found->below));
	merge->counts.redirects += r == 0;
	return r;
}

/* ---- origin ---- */

/* The object that the layers below the cut have for @found, and its layer; -1: none. */
static int mergemarks_below_of(const struct stack *stack, const struct stack_dir *dir,
			       const char *name, const struct stack_found *found,
			       struct stack_found *below, unsigned int *layer)
{
	if (found->kind == STACK_DIR) {
		unsigned int inner = stack_dir_inner(stack, &found->dir);

		if (inner == found->dir.count)
			return -1;
		*layer = found->dir.parts[inner].layer;
		return found->dir.parts[inner].fd;
	}
	if (stack_lookup(stack, dir, name, stack->inner, below) < 0 || below->kind != STACK_FILE)
		return -1;
	*layer = below->top.layer;
	return below->top.fd;
}

bool mergemarks_has_origin(const struct stack *stack, const struct stack_dir *dir, const char *name,
			   const struct stack_found *found)
{
	int top = found->kind == STACK_DIR ? found->dir.parts[0].fd : found->top.fd;
	unsigned int layer = found->kind == STACK_DIR ? found->dir.parts[0].layer :
							found->top.layer;
	_cleanup_stack_found_ struct stack_found below = STACK_FOUND_INIT;
	_cleanup_free_ char *value = NULL;
	struct origin origin, there;
	ssize_t size = sys_getxattr_alloc(top, xattr_private_name(stack->ns, XATTR_ORIGIN), &value);

	if (size < 0)
		return false;
	if (!mergemarks_has_outer(stack)) /* an upper stays one */
		return stack->has_upper && layer == 0;
	if (origin_decode(value, (size_t)size, &origin) != ORIGIN_VALID)
		return false;
	int fd = mergemarks_below_of(stack, dir, name, found, &below, &layer);

	return fd >= 0 && lineage_of(stack, layer, fd, &there) && origin_is_equal(&there, &origin);
}

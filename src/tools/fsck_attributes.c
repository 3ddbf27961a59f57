/* SPDX-License-Identifier: MIT */
#include "tools/fsck_attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "format/protattr.h"
#include "format/times.h"
#include "format/whiteout.h"
#include "sys/file.h"
#include "sys/xattr.h"
#include "tools/fsck_index.h"

#define UUID_SIZE 16

/* ---- where they may be ---- */

static bool fsck_attribute_is_placed(const struct fsck_object *object, enum xattr_private which,
				     bool is_root)
{
	mode_t mode = object->st.stx_mode;

	switch (which) {
	case XATTR_OPAQUE:
	case XATTR_IMPURE:
		return S_ISDIR(mode);
	case XATTR_WHITEOUT:
		return whiteout_may_be_xattr(mode, object->st.stx_size);
	/* What was a metacopy file keeps its redirect when it gets its data. */
	case XATTR_REDIRECT:
		return S_ISREG(mode) || (S_ISDIR(mode) && !is_root);
	case XATTR_PROTATTR:
		return S_ISREG(mode) || S_ISDIR(mode);
	case XATTR_METACOPY:
		return S_ISREG(mode);
	case XATTR_NLINK:
		return object->fsck->work_fd < 0 || fsck_index_has(object->fsck, &object->st);
	case XATTR_UPPER:
		return false;
	case XATTR_UUID:
		return is_root;
	case XATTR_ORIGIN:
	case XATTR_TIMES:
	default:
		return true;
	}
}

/* ---- what they say ---- */

static bool fsck_attribute_says(const struct fsck_object *object, enum xattr_private which)
{
	char value[FSCK_VALUE_MAX + 1];
	struct times times;
	ssize_t size = fsck_object_get(object, which, value);

	if (size < 0)
		return size != -ERANGE;
	switch (which) {
	case XATTR_OPAQUE:
		return opaque_parse(value, (size_t)size) != OPAQUE_NONE;
	case XATTR_IMPURE:
		return size == 1 && value[0] == 'y';
	case XATTR_UUID:
		return size == UUID_SIZE;
	case XATTR_TIMES: /* another version is not ours to judge */
		return (size > 0 && value[0] != 1) ||
		       times_decode((const uint8_t *)value, (size_t)size, &times) == 0;
	default:
		return true;
	}
}

/* Takes the name out of the list, as the attribute is out of the object. */
static void fsck_attribute_unlist(struct fsck_object *object, const char *key)
{
	for (char *at = object->list; at < object->list + object->list_size; at += strlen(at) + 1)
		if (!strcmp(at, key))
			memset(at, '-', strlen(at));
}

static void fsck_attribute_check(struct fsck_object *object, enum xattr_private which, bool is_root)
{
	const char *key = xattr_private_name(object->fsck->target.ns, which);
	enum fsck_problem problem = FSCK_ATTRIBUTE_DAMAGED;

	if (!fsck_object_has(object, which))
		return;
	if (!fsck_attribute_is_placed(object, which, is_root))
		problem = FSCK_ATTRIBUTE_MISPLACED;
	else if (fsck_attribute_says(object, which))
		return;
	if (!fsck_object_find(object, problem, key))
		return;
	int r = fsck_object_drop(object, which);

	if (r == 0)
		fsck_attribute_unlist(object, key);
	fsck_settle(object->fsck, r);
}

/* ---- protection flags ---- */

/* The letters that are known, each once; returns their number. */
static size_t fsck_protattr_known(const char *value, size_t size, char known[PROTATTR_SIZE_MAX])
{
	unsigned int flags = 0;

	for (size_t i = 0; i < size; i++)
		flags |= protattr_decode(value + i, 1);
	return protattr_encode(flags, known);
}

static void fsck_protattr_check(struct fsck_object *object)
{
	char value[FSCK_VALUE_MAX + 1], known[PROTATTR_SIZE_MAX];

	if (!fsck_object_has(object, XATTR_PROTATTR))
		return;
	ssize_t size = fsck_object_get(object, XATTR_PROTATTR, value);

	if (size < 0 || (size <= PROTATTR_SIZE_MAX && protattr_decode(value, (size_t)size)))
		return;
	size_t left = fsck_protattr_known(value, (size_t)size, known);

	if (!fsck_object_find(object, FSCK_PROTATTR_UNKNOWN, value))
		return;
	fsck_settle(object->fsck, left ? fsck_object_set(object, XATTR_PROTATTR, known, left) :
					 fsck_object_drop(object, XATTR_PROTATTR));
}

/* ---- the other namespace ---- */

/* What the layer's own namespace has already counts. */
static int fsck_attribute_move(struct fsck_object *object, enum xattr_private which,
			       const char *other)
{
	_cleanup_close_ int fd = object->name[0] ?
					 sys_open(object->dirfd, object->name, O_PATH, 0) :
					 sys_dup(object->dirfd);
	_cleanup_free_ char *value = NULL;
	ssize_t size = fd < 0 ? fd : sys_getxattr_alloc(fd, other, &value);

	if (size < 0)
		return (int)size;
	int r = fsck_object_has(object, which) ?
			0 :
			fsck_object_set(object, which, value, (size_t)size);

	return r < 0 ? r : sys_removexattr(fd, other);
}

static void fsck_attribute_check_other(struct fsck_object *object, enum xattr_private which)
{
	enum xattr_namespace ns = object->fsck->target.ns == XATTR_USER ? XATTR_TRUSTED :
									  XATTR_USER;
	const char *other = xattr_private_name(ns, which);
	const char *end = object->list + object->list_size;

	for (const char *at = object->list; at < end; at += strlen(at) + 1) {
		if (strcmp(at, other) != 0)
			continue;
		if (fsck_object_find(object, FSCK_ATTRIBUTE_NAMESPACE, other))
			fsck_settle(object->fsck, fsck_attribute_move(object, which, other));
		return;
	}
}

void fsck_attributes_check(struct fsck_object *object, bool is_root)
{
	if (object->list_size == 0)
		return;
	for (int which = 0; which < XATTR_PRIVATE_COUNT; which++) {
		fsck_attribute_check_other(object, which);
		fsck_attribute_check(object, which, is_root);
	}
	fsck_protattr_check(object);
}

/* SPDX-License-Identifier: MIT */
/* Extended attributes of nodes: the format's own hidden, what a user calls like them escaped. */
#include <errno.h>
#include <linux/xattr.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "core/attr.h"
#include "core/copyup.h"
#include "core/internal.h"
#include "core/place.h"
#include "core/quiet.h"
#include "core/upper.h"
#include "core/xattr.h"
#include "format/acl.h"
#include "sys/file.h"
#include "sys/xattr.h"

static bool xattr_is_acl(const char *key)
{
	return strcmp(key, ACL_XATTR_ACCESS) == 0 || strcmp(key, ACL_XATTR_DEFAULT) == 0;
}

/*
 * What an absent attribute is answered with.  A layer that has no ACLs at all has none for this
 * object: the kernel takes any other answer for an error of the file, which then cannot be opened.
 */
static ssize_t xattr_absence(ssize_t r, const char *key)
{
	return r == -EOPNOTSUPP && xattr_is_acl(key) ? -ENODATA : r;
}

/* Attributes are asked for by name: one call, and no descriptor. */
static ssize_t xattr_get(struct core *core, struct node *node, const char *real_key, void *value,
			 size_t size)
{
	struct place place;
	ssize_t r = place_hold(core, node, PLACE_META, &place);

	if (r < 0)
		return r;
	r = sys_getxattr_at(place.dirfd, place.name, real_key, value, size);
	place_release(core, &place);
	return r == -ENOENT ? -ESTALE : xattr_absence(r, real_key);
}

/*
 * Before the first write to a file the kernel asks whether it has capabilities to take away
 * (security_inode_need_killpriv()); hardly any has.  Capabilities come to a file only through us.
 */
static ssize_t xattr_get_caps(struct core *core, struct node *node, void *value, size_t size)
{
	if (node_has(node, NODE_NO_CAPS))
		return -ENODATA;
	uint64_t before = atomic_load(&core->caps_given);
	ssize_t r = xattr_get(core, node, XATTR_NAME_CAPS, value, size);

	if (r != -ENODATA || !xattr_may_remember(core))
		return r;
	node_lock(core, node);
	if (atomic_load(&core->caps_given) == before)
		node_set(node, NODE_NO_CAPS);
	node_unlock(core, node);
	return r;
}

/* They may have been given: whoever found none before that must not remember it. */
static void xattr_forget_caps(struct core *core, struct node *node)
{
	atomic_fetch_add(&core->caps_given, 1);
	node_lock(core, node);
	node_clear(node, NODE_NO_CAPS);
	node_unlock(core, node);
}

bool xattr_may_remember(const struct core *core)
{
	return !core->layers_change && !core->watch;
}

ssize_t core_getxattr(struct core *core, uint64_t node_id, const char *key, void *value,
		      size_t size)
{
	char buf[XATTR_KEY_MAX + 1];
	const char *real_key = xattr_name_escape(core->ns, key, buf);
	struct node *node = node_find(core, node_id);

	if (!node)
		return -ESTALE;
	ssize_t r = -EOPNOTSUPP;

	if (real_key && strcmp(real_key, XATTR_NAME_CAPS) == 0)
		r = xattr_get_caps(core, node, value, size);
	else if (real_key)
		r = xattr_get(core, node, real_key, value, size);
	node_unref(core, node);
	return r;
}

static ssize_t xattr_list(struct core *core, struct node *node, char **listp)
{
	struct place place;
	ssize_t r = place_hold(core, node, PLACE_META, &place);

	if (r < 0)
		return r == -ENODATA ? 0 : r;
	r = sys_listxattr_alloc_at(place.dirfd, place.name, listp);
	place_release(core, &place);
	return r == -ENOENT ? -ESTALE : r;
}

/*
 * Leaves out trusted.*, which file systems list only to those who may read it: to us, but not to
 * the caller, of whom we know no more than the user.
 */
static size_t xattr_list_drop_trusted(char *list, size_t size)
{
	size_t kept = 0;

	for (size_t at = 0, length; at < size; at += length) {
		length = strlen(list + at) + 1;
		if (strncmp(list + at, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN) == 0)
			continue;
		memmove(list + kept, list + at, length);
		kept += length;
	}
	return kept;
}

ssize_t core_listxattr(struct core *core, const struct core_call *call, uint64_t node_id,
		       char *list, size_t size)
{
	struct node *node = node_find(core, node_id);

	if (!node)
		return -ESTALE;
	_cleanup_free_ char *all = NULL;
	ssize_t r = xattr_list(core, node, &all);

	node_unref(core, node);
	if (r < 0)
		return r;
	size_t shown = xattr_list_filter(core->ns, all, r);

	if (call->uid != 0)
		shown = xattr_list_drop_trusted(all, shown);
	if (size == 0)
		return shown;
	if (shown > size)
		return -ERANGE;
	memcpy(list, all, shown);
	return shown;
}

/* ---- changes ---- */

/* One attribute to set, or to remove if @value is NULL. */
struct xattr_change {
	const char *key; /* on disk */
	const void *value;
	size_t size;
	int flags; /* XATTR_CREATE, XATTR_REPLACE */
	bool kill_sgid;
};

/* A name that the upper's file system does not take: that a file was copied up for it would show. */
static int xattr_check_name(struct core *core, const struct node *node, const char *key)
{
	if (node_has(node, NODE_UPPER))
		return 0;
	ssize_t r = sys_getxattr(core->layers[0].fd, key, NULL, 0);

	return r == -EOPNOTSUPP || r == -EINVAL ? (int)r : 0;
}

/*
 * What the change would fail with, asked before anything is copied up for it; 1: there is nothing
 * to do, as is so of an ACL that is to be removed and not there.
 */
static int xattr_check(struct core *core, struct node *node, const struct xattr_change *change)
{
	bool must_exist = !change->value || change->flags & XATTR_REPLACE;
	bool must_be_new = change->flags & XATTR_CREATE;
	int r = attr_check_change(node);

	if (r == 0)
		r = xattr_check_name(core, node, change->key);
	if (r < 0 || (!must_exist && !must_be_new))
		return r;
	ssize_t size = xattr_get(core, node, change->key, NULL, 0);

	if (size >= 0)
		return must_be_new ? -EEXIST : 0;
	if (size == -ENODATA && !change->value && xattr_is_acl(change->key))
		return 1;
	return size == -ENODATA && !must_exist ? 0 : (int)size;
}

/* An access ACL was set by someone who may not give rights away through the group. */
static int xattr_kill_sgid(int fd)
{
	struct statx st;
	int r = sys_stat(fd, "", &st);

	if (r < 0 || !(st.stx_mode & S_ISGID))
		return r;
	return upper_chmod(fd, st.stx_mode & 07777 & ~S_ISGID);
}

static int xattr_apply_at(struct core *core, const struct place *place,
			  const struct xattr_change *change)
{
	_cleanup_close_ int fd = place_open_path(place);

	if (fd < 0)
		return fd;
	if (!place->is_upper) /* copied up a moment ago, and a lower is never written */
		return -ESTALE;
	if (!change->value)
		return upper_removexattr(fd, change->key);
	int r = upper_setxattr(fd, change->key, change->value, change->size, change->flags);

	return r == 0 && change->kill_sgid ? xattr_kill_sgid(fd) : r;
}

static int xattr_apply(struct core *core, const struct core_call *call, struct node *node,
		       const struct xattr_change *change)
{
	struct place place;
	int r = xattr_check(core, node, change);

	if (r == 0)
		r = copyup_node(core, call, node, COPYUP_META);
	if (r == 0)
		r = place_hold(core, node, PLACE_META, &place);
	if (r != 0)
		return r < 0 ? r : 0;
	r = xattr_apply_at(core, &place, change);
	if (change->value && strcmp(change->key, XATTR_NAME_CAPS) == 0)
		xattr_forget_caps(core, node);
	place_release(core, &place);
	if (r == 0 && node_is_dir(node))
		quiet_changed(core, node);
	if (r == 0 && !change->value && strcmp(change->key, XATTR_NAME_CAPS) == 0) {
		node_lock(core, node);
		node_set(node, NODE_STRIPPED);
		node_unlock(core, node);
	}
	return r;
}

static int xattr_change(struct core *core, const struct core_call *call, uint64_t node_id,
			const struct xattr_change *change)
{
	if (core_refuses_changes(core))
		return -EROFS;
	if (!change->key)
		return -EOPNOTSUPP; /* too long once it is escaped */
	struct node *node = node_find(core, node_id);

	if (!node)
		return -ESTALE;
	int r = xattr_apply(core, call, node, change);

	node_unref(core, node);
	return r;
}

int core_setxattr(struct core *core, const struct core_call *call, uint64_t node, const char *key,
		  const void *value, size_t size, int flags, bool kill_sgid)
{
	char buf[XATTR_KEY_MAX + 1];
	const struct xattr_change change = {
		.key = xattr_name_escape(core->ns, key, buf),
		.value = value ? value : "", /* an empty value may come without a place */
		.size = size,
		.flags = flags,
		/* The kernel asks for it with a default ACL as well, which gives no rights. */
		.kill_sgid = kill_sgid && strcmp(key, ACL_XATTR_ACCESS) == 0,
	};

	return xattr_change(core, call, node, &change);
}

int core_removexattr(struct core *core, const struct core_call *call, uint64_t node,
		     const char *key)
{
	char buf[XATTR_KEY_MAX + 1];
	const struct xattr_change change = { .key = xattr_name_escape(core->ns, key, buf) };

	return xattr_change(core, call, node, &change);
}

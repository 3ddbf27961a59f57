/* SPDX-License-Identifier: MIT */
#include "core/owner.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/place.h"
#include "core/upper.h"
#include "format/owner.h"
#include "sys/file.h"
#include "sys/namespace.h"
#include "sys/xattr.h"

#define OWNER_KEEP ((uid_t)-1)

void owner_init(struct core *core)
{
	core->owners.are_partial = sys_ids_are_partial();
	core->owners.nobody = sys_overflow_id();
	core->owners.uid = geteuid();
	core->owners.gid = getegid();
}

/* Which of the two ids of @st have no number here. */
static unsigned int owner_foreign(const struct core *core, const struct statx *st)
{
	return (st->stx_uid == core->owners.nobody ? OWNER_FOREIGN_UID : 0) |
	       (st->stx_gid == core->owners.nobody ? OWNER_FOREIGN_GID : 0);
}

/*
 * What the user may do with an object beyond what its mode gives to everybody. Only a mode that gives its
 * group something (an ACL does that as well), or everybody the right to write, makes us ask.
 */
static unsigned int owner_rights(const struct statx *st, int dirfd, const char *name)
{
	unsigned int group = st->stx_mode >> 3 & 07, others = st->stx_mode & 07;

	if ((group | others) & W_OK && sys_may_access(dirfd, name, W_OK))
		return OWNER_MAY_WRITE;
	group &= ~others & (R_OK | X_OK);
	return group && sys_may_access(dirfd, name, (int)group) ? OWNER_MAY_READ : 0;
}

/* The ids by which the kernel gives the user these rights, and no others. */
static void owner_show(const struct core *core, unsigned int marks, struct statx *st)
{
	st->stx_uid = marks & OWNER_FOREIGN_UID ? core->owners.nobody : core->owners.uid;
	st->stx_gid = marks & OWNER_FOREIGN_GID ? core->owners.nobody : core->owners.gid;
	/* One foreign id is enough to make the kernel refuse every change. */
	if (marks & OWNER_MAY_WRITE || !(marks & OWNER_FOREIGN_UID))
		st->stx_uid = core->owners.uid;
	if (marks & (OWNER_MAY_WRITE | OWNER_MAY_READ) || !(marks & OWNER_FOREIGN_UID))
		st->stx_gid = core->owners.gid;
}

static unsigned int owner_read(const struct core *core, int dirfd, const char *name)
{
	char value[OWNER_SIZE_MAX];
	ssize_t size =
		sys_getxattr_at(dirfd, name, core_key(core, XATTR_OWNER), value, sizeof(value));

	return size > 0 ? owner_decode(value, (size_t)size) : 0;
}

void owner_present(struct core *core, struct node *node, struct statx *st)
{
	unsigned int marks = core->owners.are_partial ? owner_foreign(core, st) : 0;
	struct place place;

	if (!core->owners.are_partial || S_ISLNK(node->type) ||
	    (!marks && !node_has(node, NODE_UPPER)) ||
	    place_hold(core, node, PLACE_META, &place) < 0)
		return;
	if (marks)
		marks |= owner_rights(st, place.dirfd, place.name);
	else
		marks = owner_read(core, place.dirfd, place.name);
	place_release(core, &place);
	if (marks)
		owner_show(core, marks, st);
}

static int owner_mark(const struct clone_attr *clone, unsigned int marks)
{
	char value[OWNER_SIZE_MAX];
	size_t size = owner_encode(marks, value);
	int r = upper_setxattr(clone->to, core_key(clone->core, XATTR_OWNER), value, size, 0);

	/* Symbolic links and special files take no such attributes. */
	return r == -EPERM || r == -EOPNOTSUPP ? 0 : r;
}

int owner_clone(const struct clone_attr *clone, const struct statx *made)
{
	struct core *core = clone->core;
	const struct statx *st = clone->st;
	unsigned int foreign = core->owners.are_partial ? owner_foreign(core, st) : 0,
		     marks = foreign;
	uid_t uid = foreign & OWNER_FOREIGN_UID ? OWNER_KEEP : st->stx_uid;
	gid_t gid = foreign & OWNER_FOREIGN_GID ? OWNER_KEEP : st->stx_gid;
	int r = 0;

	if ((uid != OWNER_KEEP && uid != made->stx_uid) ||
	    (gid != OWNER_KEEP && gid != made->stx_gid))
		r = upper_chown(clone->to, uid, gid);
	if (r < 0 || !core->owners.are_partial || clone->from < 0)
		return r;
	/* A copy of a copy is what that is. */
	if (foreign)
		marks |= owner_rights(st, clone->from, "");
	else
		marks = owner_read(core, clone->from, "");
	return marks ? owner_mark(clone, marks) : 0;
}

/* SPDX-License-Identifier: MIT */
#include "core/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/mark.h"
#include "core/place.h"
#include "core/upper.h"
#include "format/owner.h"
#include "sys/file.h"
#include "sys/namespace.h"
#include "sys/xattr.h"

#define OWNER_KEEP ((uid_t)-1)
#define OWNER_FOREIGN (OWNER_FOREIGN_UID | OWNER_FOREIGN_GID)

void owner_init(struct core *core)
{
	core->owners.are_partial = sys_ids_are_partial();
	core->owners.nobody = sys_overflow_id();
	core->owners.uid = geteuid();
	core->owners.gid = getegid();
}

/* True if a copy may belong to another than it should. */
static bool owner_may_differ(const struct core *core)
{
	return core->ns == XATTR_USER && (core->in_userns || !core->can_chown);
}

/* Which of the two ids of @st have no number here. */
static unsigned int owner_foreign(const struct core *core, const struct statx *st)
{
	return (st->stx_uid == core->owners.nobody ? OWNER_FOREIGN_UID : 0) |
	       (st->stx_gid == core->owners.nobody ? OWNER_FOREIGN_GID : 0);
}

/*
 * What the user may do with an object beyond what its mode gives to everybody. Only a mode that
 * gives its group something (an ACL does that as well), or everybody the right to write, makes us
 * ask.
 */
static unsigned int owner_rights(const struct statx *st, int dirfd, const char *name)
{
	unsigned int group = st->stx_mode >> 3 & 07, others = st->stx_mode & 07;

	if ((group | others) & W_OK && sys_may_access(dirfd, name, W_OK))
		return OWNER_MAY_WRITE;
	group &= ~others & (R_OK | X_OK);
	return group && sys_may_access(dirfd, name, (int)group) ? OWNER_MAY_READ : 0;
}

/* ---- the attribute ---- */

/*
 * -ENODATA: there is none, also where there can be none. One that may not be read is none either,
 * as owner_lose() sees to it that those can be.
 */
static int owner_read(const struct core *core, int dirfd, const char *name, struct owner *owner)
{
	char value[OWNER_SIZE_MAX];
	ssize_t size =
		sys_getxattr_at(dirfd, name, core_key(core, XATTR_OWNER), value, sizeof(value));

	if (size < 0)
		return size == -EOPNOTSUPP || size == -EACCES ? -ENODATA : (int)size;
	owner_decode(value, (size_t)size, owner);
	return 0;
}

static int owner_write(struct core *core, int fd, const struct owner *owner)
{
	char value[OWNER_SIZE_MAX];
	size_t size = owner_encode(owner, value);

	return mark_set(core, fd, XATTR_OWNER, value, size);
}

/*
 * What is left of @mode for an object that belongs to another on disk. Set-id bits would be that
 * other's; and who may not override modes has to be able to read the attribute.
 */
static mode_t owner_lose(const struct core *core, unsigned int lost, mode_t mode)
{
	if (lost & OWNER_FOREIGN_UID)
		mode &= ~(mode_t)S_ISUID;
	if (lost & OWNER_FOREIGN_GID && !S_ISDIR(mode))
		mode &= ~(mode_t)S_ISGID;
	if (!core->can_override && lost & OWNER_FOREIGN)
		mode |= S_IRUSR;
	return mode & 07777;
}

/* ---- what is shown ---- */

/*
 * Of an owner who has a number here, that. Else the ids by which the kernel gives the user the
 * rights there are, and no others: one foreign id is enough to make it refuse every change.
 */
static void owner_show(const struct core *core, const struct owner *owner, struct statx *st)
{
	const bool has_ids = owner->has_ids && !core->in_userns;
	const bool is_own = !(owner->marks & OWNER_FOREIGN_UID);
	const bool writes = owner->marks & OWNER_MAY_WRITE;
	const bool reads = owner->marks & OWNER_MAY_READ;

	if (owner->marks & OWNER_FOREIGN_UID)
		st->stx_uid = has_ids ? owner->uid :
			      writes  ? core->owners.uid :
					core->owners.nobody;
	if (owner->marks & OWNER_FOREIGN_GID)
		st->stx_gid = has_ids			? owner->gid :
			      is_own || writes || reads ? core->owners.gid :
							  core->owners.nobody;
}

void owner_present(struct core *core, struct node *node, struct statx *st)
{
	struct owner owner = { 0 };
	struct place place;

	if (!owner_may_differ(core) || S_ISLNK(node->type))
		return;
	if (core->owners.are_partial)
		owner.marks = owner_foreign(core, st);
	if (!owner.marks && !node_has(node, NODE_OWNER))
		return;
	int r = place_hold(core, node, PLACE_META, &place);

	if (r == 0) {
		if (owner.marks)
			owner.marks |= owner_rights(st, place.dirfd, place.name);
		else if (place.is_upper)
			r = owner_read(core, place.dirfd, place.name, &owner);
		place_release(core, &place);
	}
	/* Nobody's, if whose it is cannot be told. */
	if (r < 0 && r != -ENODATA)
		owner.marks = OWNER_FOREIGN;
	owner_show(core, &owner, st);
}

void owner_note(struct core *core, struct node *node, int dirfd, const char *name)
{
	struct owner owner;

	if (!owner_may_differ(core) || (!S_ISREG(node->type) && !node_is_dir(node)))
		return;
	/* One that cannot be read is looked at again, and is nobody's until then. */
	if (owner_read(core, dirfd, name, &owner) == -ENODATA)
		node_clear(node, NODE_OWNER);
	else
		node_set(node, NODE_OWNER);
}

/* ---- copies ---- */

/*
 * The number that is shown for all that have none may be one of those that the namespace has. The
 * right to act for an owner, which this takes, is one over owners with a number only.
 */
static bool owner_has_number(const struct clone_attr *clone)
{
	_cleanup_close_ int fd = sys_reopen(clone->from, O_RDONLY | O_NOATIME | O_NONBLOCK);

	return fd != -EPERM && fd != -EACCES;
}

/* What of the owner is known beforehand to be out of reach. */
static unsigned int owner_judge(const struct clone_attr *clone)
{
	const struct core *core = clone->core;
	const struct statx *st = clone->st;

	if (!core->in_userns || clone->from < 0)
		return 0;
	if (core->owners.are_partial)
		return owner_foreign(core, st);
	if ((!S_ISREG(st->stx_mode) && !S_ISDIR(st->stx_mode)) ||
	    st->stx_uid != core->owners.nobody || owner_has_number(clone))
		return 0;
	return owner_foreign(core, st);
}

static bool owner_is_refused(const struct core *core, int error)
{
	return owner_may_differ(core) && (error == -EINVAL || error == -EPERM);
}

static int owner_set_part(const struct clone_attr *clone, uid_t uid, gid_t gid, unsigned int mark,
			  unsigned int *lost)
{
	int r = upper_chown(clone->to, uid, gid);

	if (!owner_is_refused(clone->core, r))
		return r;
	*lost |= mark;
	return 0;
}

/* Sets what differs and is not known to be @lost, and adds to that what is refused. */
static int owner_set(const struct clone_attr *clone, unsigned int *lost)
{
	const struct statx *st = clone->st;
	struct statx made;
	int r = sys_stat(clone->to, "", &made);

	if (r < 0)
		return r;
	bool sets_uid = made.stx_uid != st->stx_uid && !(*lost & OWNER_FOREIGN_UID);
	bool sets_gid = made.stx_gid != st->stx_gid && !(*lost & OWNER_FOREIGN_GID);

	if (sets_uid || sets_gid)
		r = upper_chown(clone->to, sets_uid ? st->stx_uid : OWNER_KEEP,
				sets_gid ? st->stx_gid : OWNER_KEEP);
	if (!owner_is_refused(clone->core, r))
		return r;
	r = sets_uid ? owner_set_part(clone, st->stx_uid, OWNER_KEEP, OWNER_FOREIGN_UID, lost) : 0;
	return r == 0 && sets_gid ?
		       owner_set_part(clone, OWNER_KEEP, st->stx_gid, OWNER_FOREIGN_GID, lost) :
		       r;
}

/* What the attribute of the copy is to say; no marks: there is to be none. */
static struct owner owner_of_copy(const struct clone_attr *clone, unsigned int lost)
{
	const struct core *core = clone->core;
	struct owner owner = { 0 };

	/* A copy of a copy is what that is. */
	if (clone->from_upper) {
		owner_read(core, clone->from, "", &owner);
	} else if (lost) {
		owner.has_ids = !core->in_userns;
		owner.uid = clone->st->stx_uid;
		owner.gid = clone->st->stx_gid;
		/* Among many ids the kernel does not refuse: there it finds rights by itself. */
		if (clone->from >= 0 && (!core->in_userns || core->owners.are_partial))
			owner.marks = owner_rights(clone->st, clone->from, "");
	}
	owner.marks |= lost;
	return owner;
}

int owner_clone(struct clone_attr *clone)
{
	struct core *core = clone->core;
	const mode_t mode = clone->st->stx_mode;
	unsigned int lost = owner_may_differ(core) && !clone->from_upper ? owner_judge(clone) : 0;
	int r = owner_set(clone, &lost);

	clone->is_lost = lost;
	clone->mode = owner_lose(core, lost, mode);
	/* Symbolic links and special files take no such attributes. */
	if (r < 0 || !owner_may_differ(core) || (!S_ISREG(mode) && !S_ISDIR(mode)))
		return r;
	struct owner owner = owner_of_copy(clone, lost);

	if (!owner.marks)
		return 0;
	r = owner_write(core, clone->to, &owner);
	return r == -EOPNOTSUPP ? -EOVERFLOW : r;
}

/* ---- changes ---- */

mode_t owner_fit_mode(struct core *core, struct node *node, int fd, mode_t mode)
{
	struct owner owner = { 0 };

	if (!node_has(node, NODE_OWNER))
		return mode & 07777;
	int r = owner_read(core, fd, "", &owner);
	unsigned int lost = r == 0 ? owner.marks : r == -ENODATA ? 0 : OWNER_FOREIGN;

	return owner_lose(core, lost, node->type | (mode & 07777));
}

int owner_changed(struct core *core, struct node *node, int fd, bool uid, bool gid)
{
	struct owner owner = { 0 };

	if (!node_has(node, NODE_OWNER) || (!uid && !gid))
		return 0;
	int r = owner_read(core, fd, "", &owner);

	if (r < 0 && r != -ENODATA)
		return r;
	owner.marks &= ~((uid ? OWNER_FOREIGN_UID : 0U) | (gid ? OWNER_FOREIGN_GID : 0U));
	if (owner.marks & OWNER_FOREIGN)
		return owner_write(core, fd, &owner);
	r = mark_remove(core, fd, XATTR_OWNER);
	if (r < 0 && r != -ENODATA)
		return r;
	node_clear(node, NODE_OWNER);
	return 0;
}

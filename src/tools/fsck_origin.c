/* SPDX-License-Identifier: MIT */
#include "tools/fsck_origin.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/hash.h"
#include "sys/file.h"
#include "sys/handle.h"

/* ---- judging ---- */

/* True if the origin may be on the lower's file system. Zeros: written with uuid=off. */
static bool fsck_origin_is_on(const struct fsck_lower *lower, const struct origin *origin)
{
	static const uint8_t none[sizeof(origin->uuid)];

	return !lower->has_uuid || memcmp(origin->uuid, none, sizeof(none)) == 0 ||
	       memcmp(origin->uuid, lower->uuid, sizeof(none)) == 0;
}

/* Several lowers may be on one file system: any of them will do. -ENOENT: none is. */
static int fsck_origin_open(const struct fsck *fsck, const struct origin *origin)
{
	struct sys_handle handle = { .type = origin->type, .size = origin->fid_size };
	int r = -ENOENT;

	memcpy(handle.bytes, origin->fid, origin->fid_size);
	for (size_t i = 0; i < fsck->lower_count; i++) {
		const struct fsck_lower *lower = &fsck->lowers[i];

		if (!fsck_origin_is_on(lower, origin))
			continue;
		r = lower->has_handles && fsck->can_open_handles ?
			    sys_handle_open(lower->fd, &handle, O_PATH | O_NOFOLLOW) :
			    -EPERM;
		/* One that cannot say no leaves it open. */
		if (r != -ESTALE && r != -EINVAL)
			break;
	}
	return r;
}

enum fsck_origin fsck_origin_judge(const struct fsck *fsck, const struct origin *origin,
				   mode_t mode, int *fd)
{
	int opened = fsck_origin_open(fsck, origin);
	_cleanup_close_ int kept = opened >= 0 ? opened : -1;
	struct statx st;

	if (fd)
		*fd = -1;
	if (opened == -ENOENT)
		return FSCK_ORIGIN_ELSEWHERE;
	if (opened == -ESTALE || opened == -EINVAL)
		return FSCK_ORIGIN_GONE;
	if (opened < 0 || sys_stat(kept, "", &st) < 0)
		return FSCK_ORIGIN_GOOD;
	if ((st.stx_mode ^ mode) & S_IFMT)
		return FSCK_ORIGIN_GONE;
	if (fd)
		*fd = fd_take(&kept);
	return FSCK_ORIGIN_GOOD;
}

bool fsck_origin_of(int fd, const uint8_t uuid[16], struct origin *origin)
{
	struct sys_handle handle;

	if (sys_handle_get(fd, "", &handle) < 0 || handle.size > ORIGIN_FID_MAX ||
	    handle.type < 0 || handle.type > 0xff)
		return false;
	*origin = (struct origin){ .type = (uint8_t)handle.type, .fid_size = (uint8_t)handle.size };
	memcpy(origin->fid, handle.bytes, handle.size);
	memcpy(origin->uuid, uuid, sizeof(origin->uuid));
	return true;
}

/* ---- of an object ---- */

bool fsck_origin_read(const struct fsck_object *object, struct origin *origin)
{
	char value[FSCK_VALUE_MAX + 1];
	ssize_t size = fsck_object_get(object, XATTR_ORIGIN, value);

	return size > 0 && origin_decode(value, (size_t)size, origin) == ORIGIN_VALID;
}

/*
 * A file keeps the word that it was copied from somewhere; the next mount writes a directory's
 * again if it has none.
 */
static void fsck_origin_forget(struct fsck_object *object, enum fsck_problem problem)
{
	if (!fsck_object_find(object, problem, NULL))
		return;
	fsck_settle(object->fsck, S_ISDIR(object->st.stx_mode) ?
					  fsck_object_drop(object, XATTR_ORIGIN) :
					  fsck_object_set(object, XATTR_ORIGIN, "", 0));
}

bool fsck_origin_is_doubled(struct fsck_object *object, const void *value, size_t size)
{
	struct fsck_set *origins = &object->fsck->origins;
	/* Two entries of the set for each: the origin, and that with the file. */
	uint64_t key = hash_bytes(value, size, 0);
	bool is_new = !S_ISDIR(object->st.stx_mode) && fsck_set_add(origins, key);
	bool is_same = S_ISDIR(object->st.stx_mode) ||
		       !fsck_set_add(origins, hash_u64(key, object->st.stx_ino));

	return !is_new && !is_same;
}

bool fsck_origin_check(struct fsck_object *object)
{
	char value[FSCK_VALUE_MAX + 1];
	struct origin origin;

	if (!fsck_object_has(object, XATTR_ORIGIN))
		return false;
	ssize_t size = fsck_object_get(object, XATTR_ORIGIN, value);
	enum origin_kind kind = size < 0 ? ORIGIN_INVALID :
					   origin_decode(value, (size_t)size, &origin);

	if (kind == ORIGIN_UNKNOWN)
		return false;
	if (kind == ORIGIN_INVALID || origin.is_upper) {
		fsck_origin_forget(object, FSCK_ORIGIN_DAMAGED);
		return false;
	}
	switch (fsck_origin_judge(object->fsck, &origin, object->st.stx_mode, NULL)) {
	case FSCK_ORIGIN_GOOD:
		break;
	case FSCK_ORIGIN_ELSEWHERE:
		fsck_origin_forget(object, FSCK_ORIGIN_FOREIGN);
		return false;
	case FSCK_ORIGIN_GONE:
		fsck_origin_forget(object, FSCK_ORIGIN_STALE);
		return false;
	}
	if (!fsck_origin_is_doubled(object, value, (size_t)size))
		return true;
	fsck_origin_forget(object, FSCK_ORIGIN_DOUBLED);
	return false;
}

/* ---- of the root ---- */

bool fsck_origin_is_same(struct origin *a, const struct origin *b)
{
	static const uint8_t none[sizeof(a->uuid)];

	if (memcmp(a->uuid, none, sizeof(none)) == 0)
		memcpy(a->uuid, b->uuid, sizeof(none));
	return origin_is_equal(a, b);
}

void fsck_origin_check_root(struct fsck_object *root)
{
	struct fsck *fsck = root->fsck;
	char value[FSCK_VALUE_MAX + 1];
	uint8_t encoded[ORIGIN_SIZE_MAX];
	struct origin is, should;

	if (!fsck_object_has(root, XATTR_ORIGIN) || fsck->lower_count == 0 ||
	    !fsck_origin_of(fsck->lowers[0].fd, fsck->lowers[0].uuid, &should))
		return;
	ssize_t size = fsck_object_get(root, XATTR_ORIGIN, value);
	enum origin_kind kind = size < 0 ? ORIGIN_INVALID : origin_decode(value, (size_t)size, &is);

	if (kind == ORIGIN_UNKNOWN || (kind == ORIGIN_VALID && fsck_origin_is_same(&is, &should)))
		return;
	if (kind == ORIGIN_INVALID) {
		if (fsck_object_find(root, FSCK_ORIGIN_DAMAGED, NULL))
			fsck_settle(fsck, fsck_object_drop(root, XATTR_ORIGIN));
		return;
	}
	fsck->report.lowers_differ = true;
	if (!fsck_object_find(root, FSCK_ORIGIN_ROOT, fsck->target.lowers.items[0].path))
		return;
	int r = fsck_object_set(root, XATTR_ORIGIN, encoded, origin_encode(&should, encoded));

	if (r == 0)
		fsck->report.lowers_differ = false;
	fsck_settle(fsck, r);
}

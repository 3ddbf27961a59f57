/* SPDX-License-Identifier: MIT */
#include "offline/entry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "format/redirect.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/xattr.h"

void entry_deinit(struct entry *entry)
{
	free(entry->redirect);
	entry->redirect = NULL;
}

/* ---- attributes ---- */

/*
 * An object being asked for its attributes. Where there is no list of them (a file system without,
 * or an object that may have none) there is nothing to ask.
 */
struct entry_asked {
	int dirfd;
	const char *name;
	enum xattr_namespace ns;
	const char *list;
	ssize_t size;
};

static bool entry_has(const struct entry_asked *asked, enum xattr_private which)
{
	const char *key = xattr_private_name(asked->ns, which);

	for (const char *at = asked->list; at < asked->list + asked->size; at += strlen(at) + 1)
		if (!strcmp(at, key))
			return true;
	return false;
}

static int entry_read_opaque(const struct entry_asked *asked, struct entry *entry)
{
	char value[2];

	if (!entry_has(asked, XATTR_OPAQUE))
		return 0;
	ssize_t size = sys_getxattr_at(asked->dirfd, asked->name,
				       xattr_private_name(asked->ns, XATTR_OPAQUE), value,
				       sizeof(value));

	if (size >= 0)
		entry->opaque = opaque_parse(value, (size_t)size);
	return size < 0 && size != -ERANGE && size != -ENODATA ? (int)size : 0;
}

static int entry_read_redirect(const struct entry_asked *asked, struct entry *entry)
{
	const char *key = xattr_private_name(asked->ns, XATTR_REDIRECT);

	if (!entry_has(asked, XATTR_REDIRECT))
		return 0;
	ssize_t size = sys_getxattr_at(asked->dirfd, asked->name, key, NULL, 0);
	char *value = size < 0 ? NULL : calloc(1, (size_t)size + 1);

	if (size >= 0)
		size = value ? sys_getxattr_at(asked->dirfd, asked->name, key, value,
					       (size_t)size) :
			       -ENOMEM;
	if (size >= 0 && redirect_is_valid(value, (size_t)size))
		entry->redirect = ptr_take(value);
	else
		entry->has_bad_redirect = size >= 0;
	free(value);
	return size < 0 && size != -ENODATA ? (int)size : 0;
}

static void entry_read_owner(const struct entry_asked *asked, struct entry *entry)
{
	char value[OWNER_SIZE_MAX];
	ssize_t size = !entry_has(asked, XATTR_OWNER) ?
			       0 :
			       sys_getxattr_at(asked->dirfd, asked->name,
					       xattr_private_name(asked->ns, XATTR_OWNER), value,
					       sizeof(value));

	if (size > 0)
		owner_decode(value, (size_t)size, &entry->owner);
}

static bool entry_inherits(const struct owner *owner, unsigned int mark, uint32_t id,
			   uint32_t lower)
{
	return owner->marks & mark && (!owner->has_ids || id == lower);
}

void entry_inherit_owner(struct entry *entry, const struct statx *lower)
{
	const struct owner *owner = &entry->owner;

	/* A mount leaves no set-id bits on such a copy: they were put there otherwise. */
	if (entry_inherits(owner, OWNER_FOREIGN_UID, owner->uid, lower->stx_uid)) {
		entry->st.stx_uid = lower->stx_uid;
		entry->st.stx_mode &= (uint16_t)~S_ISUID;
	}
	if (entry_inherits(owner, OWNER_FOREIGN_GID, owner->gid, lower->stx_gid)) {
		entry->st.stx_gid = lower->stx_gid;
		if (!S_ISDIR(entry->st.stx_mode))
			entry->st.stx_mode &= (uint16_t)~S_ISGID;
	}
}

static int entry_read_attributes(const struct entry_asked *asked, struct entry *entry)
{
	mode_t mode = entry->st.stx_mode;
	int r = 0;

	entry->has_origin = entry_has(asked, XATTR_ORIGIN);
	entry_read_owner(asked, entry);
	if (S_ISDIR(mode)) {
		entry->is_impure = entry_has(asked, XATTR_IMPURE);
		r = entry_read_opaque(asked, entry);
	} else if (S_ISREG(mode)) {
		entry->is_metacopy = entry_has(asked, XATTR_METACOPY);
		entry->is_whiteout = whiteout_may_be_xattr(mode, entry->st.stx_size) &&
				     entry_has(asked, XATTR_WHITEOUT);
	}
	return r < 0 ? r : entry_read_redirect(asked, entry);
}

int entry_read(int dirfd, const char *name, enum xattr_namespace ns, struct entry *entry)
{
	*entry = ENTRY_INIT;
	int r = sys_stat(dirfd, name, &entry->st);

	if (r < 0)
		return r;
	entry->is_whiteout = whiteout_is_device(entry->st.stx_mode, sys_stat_rdev(&entry->st));
	if (entry->is_whiteout)
		return 0;
	_cleanup_free_ char *list = NULL;
	struct entry_asked asked = { .dirfd = dirfd, .name = name, .ns = ns };

	asked.size = sys_listxattr_alloc_at(dirfd, name, &list);
	if (asked.size == -EOPNOTSUPP || asked.size == 0)
		return 0;
	asked.list = list;
	return asked.size < 0 ? (int)asked.size : entry_read_attributes(&asked, entry);
}

/* ---- names ---- */

int entry_names_add(struct entry_names *names, const char *text)
{
	/* Grows by doubling: full whenever the count is a power of two. */
	if ((names->count & (names->count - 1)) == 0) {
		size_t size = names->count ? 2 * names->count : 1;
		char **more = reallocarray(names->names, size, sizeof(*more));

		if (!more)
			return -ENOMEM;
		names->names = more;
	}
	char *name = strdup(text);

	if (!name)
		return -ENOMEM;
	names->names[names->count++] = name;
	return 0;
}

static int entry_names_visit(const struct sys_dirent *dirent, void *context)
{
	return entry_names_add(context, dirent->name);
}

static int entry_names_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void entry_names_sort(struct entry_names *names)
{
	if (names->count > 1)
		qsort(names->names, names->count, sizeof(*names->names), entry_names_compare);
}

int entry_names_read(int fd, struct entry_names *names)
{
	*names = ENTRY_NAMES_INIT;
	int r = sys_dir_for_each(fd, entry_names_visit, names);

	entry_names_sort(names);
	return r;
}

bool entry_names_has(const struct entry_names *names, const char *name)
{
	return names->count > 0 && bsearch(&name, names->names, names->count, sizeof(*names->names),
					   entry_names_compare);
}

void entry_names_deinit(struct entry_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->names[i]);
	free(names->names);
	*names = ENTRY_NAMES_INIT;
}

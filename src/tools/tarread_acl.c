/* SPDX-License-Identifier: MIT */
#include "tools/tarread_acl.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/util.h"

/* The form of linux/posix_acl_xattr.h; entries are sorted by tag, then by id. */
#define TARREAD_ACL_VERSION 2
#define TARREAD_ACL_ENTRY_SIZE 8
#define TARREAD_ACL_PERMISSIONS 7

struct tarread_acl_entry {
	uint16_t tag, permissions;
	uint32_t id; /* UINT32_MAX: of nobody in particular */
};

static const struct {
	int archive;
	uint16_t tag;
	bool has_id;
} tarread_acl_tags[] = {
	{ ARCHIVE_ENTRY_ACL_USER_OBJ, 0x01, false },  { ARCHIVE_ENTRY_ACL_USER, 0x02, true },
	{ ARCHIVE_ENTRY_ACL_GROUP_OBJ, 0x04, false }, { ARCHIVE_ENTRY_ACL_GROUP, 0x08, true },
	{ ARCHIVE_ENTRY_ACL_MASK, 0x10, false },      { ARCHIVE_ENTRY_ACL_OTHER, 0x20, false },
};

static int tarread_acl_convert(int tag, int permissions, int id, struct tarread_acl_entry *to)
{
	for (size_t i = 0; i < ARRAY_SIZE(tarread_acl_tags); i++) {
		if (tarread_acl_tags[i].archive != tag)
			continue;
		if (tarread_acl_tags[i].has_id && id < 0)
			return -EBADMSG;
		*to = (struct tarread_acl_entry){
			.tag = tarread_acl_tags[i].tag,
			.permissions = (uint16_t)(permissions & TARREAD_ACL_PERMISSIONS),
			.id = tarread_acl_tags[i].has_id ? (uint32_t)id : UINT32_MAX,
		};
		return 0;
	}
	return -EBADMSG;
}

static int tarread_acl_compare(const void *left, const void *right)
{
	const struct tarread_acl_entry *a = left, *b = right;

	if (a->tag != b->tag)
		return a->tag < b->tag ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static void tarread_acl_encode(const struct tarread_acl_entry *entries, size_t count,
			       struct strbuf *value)
{
	unsigned char bytes[TARREAD_ACL_ENTRY_SIZE];

	put_le32(bytes, TARREAD_ACL_VERSION);
	strbuf_append(value, bytes, sizeof(uint32_t));
	for (size_t i = 0; i < count; i++) {
		put_le16(bytes, entries[i].tag);
		put_le16(bytes + 2, entries[i].permissions);
		put_le32(bytes + 4, entries[i].id);
		strbuf_append(value, bytes, sizeof(bytes));
	}
}

int tarread_acl(const struct tarlib *lib, struct archive_entry *entry, bool is_default,
		struct strbuf *value)
{
	int wanted = is_default ? ARCHIVE_ENTRY_ACL_TYPE_DEFAULT : ARCHIVE_ENTRY_ACL_TYPE_ACCESS;
	int size = lib->archive_entry_acl_reset(entry, wanted);
	int type, permissions, tag, id, r = 0;
	const char *name;
	size_t count = 0;

	value->length = 0;
	if (size <= 0)
		return 0;
	_cleanup_free_ struct tarread_acl_entry *entries = calloc((size_t)size, sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	while (r == 0 && count < (size_t)size &&
	       lib->archive_entry_acl_next(entry, wanted, &type, &permissions, &tag, &id, &name) ==
		       ARCHIVE_OK)
		r = tarread_acl_convert(tag, permissions, id, &entries[count++]);
	if (r < 0)
		return r;
	qsort(entries, count, sizeof(*entries), tarread_acl_compare);
	tarread_acl_encode(entries, count, value);
	return value->failed ? -ENOMEM : 0;
}

mode_t tarread_acl_mode(const struct tarlib *lib, struct archive_entry *entry)
{
	mode_t mode = lib->archive_entry_mode(entry);
	int type, permissions, tag, id;
	const char *name;

	if (lib->archive_entry_acl_reset(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS) <= 0)
		return mode;
	while (lib->archive_entry_acl_next(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, &type,
					   &permissions, &tag, &id, &name) == ARCHIVE_OK)
		if (tag == ARCHIVE_ENTRY_ACL_MASK)
			return (mode & (mode_t)~S_IRWXG) |
			       (mode_t)(permissions & TARREAD_ACL_PERMISSIONS) << 3;
	return mode;
}

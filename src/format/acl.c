/* SPDX-License-Identifier: MIT */
#include "format/acl.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/endian.h"
#include "base/util.h"

#define ACL_VERSION 2
#define ACL_HEADER_SIZE 4
#define ACL_ENTRY_SIZE 8
#define ACL_PERM_MASK 07u

/* Tags in the order in which entries must come. */
enum acl_tag {
	ACL_USER_OBJ = 0x01,
	ACL_USER = 0x02,
	ACL_GROUP_OBJ = 0x04,
	ACL_GROUP = 0x08,
	ACL_MASK = 0x10,
	ACL_OTHER = 0x20,
};

struct acl_entries {
	unsigned char *user_obj, *group_obj, *mask, *other; /* mask: NULL if there is none */
};

static unsigned int acl_perm(const unsigned char *entry)
{
	return get_le16(entry + 2);
}

/*
 * Finds the entries that mode bits stand for; false unless it is a valid ACL (posix_acl_valid):
 * one of each but USER and GROUP, in order, a mask if there is a USER or a GROUP.
 */
static bool acl_find_entries(unsigned char *acl, size_t size, struct acl_entries *found)
{
	unsigned int seen = 0;

	*found = (struct acl_entries){ 0 };
	if (size < ACL_HEADER_SIZE || (size - ACL_HEADER_SIZE) % ACL_ENTRY_SIZE != 0 ||
	    get_le32(acl) != ACL_VERSION)
		return false;
	for (unsigned char *at = acl + ACL_HEADER_SIZE; at < acl + size; at += ACL_ENTRY_SIZE) {
		unsigned int tag = get_le16(at);
		bool may_repeat = tag == ACL_USER || tag == ACL_GROUP;

		/* Tags are bits: none that comes later may have been seen, nor most twice. */
		if (seen >= 2 * tag || (!may_repeat && (seen & tag)) ||
		    (acl_perm(at) & ~ACL_PERM_MASK))
			return false;
		if (tag == ACL_USER_OBJ)
			found->user_obj = at;
		else if (tag == ACL_GROUP_OBJ)
			found->group_obj = at;
		else if (tag == ACL_MASK)
			found->mask = at;
		else if (tag == ACL_OTHER)
			found->other = at;
		else if (!may_repeat)
			return false;
		seen |= tag;
	}
	return found->user_obj && found->group_obj && found->other &&
	       (found->mask || !(seen & (ACL_USER | ACL_GROUP)));
}

/* Takes from the entry and from the three bits of @mode at @shift what the other lacks. */
static mode_t acl_restrict(unsigned char *entry, mode_t mode, unsigned int shift)
{
	unsigned int perm = acl_perm(entry) & (mode >> shift);

	put_le16(entry + 2, (uint16_t)perm);
	return (mode & ~(ACL_PERM_MASK << shift)) | perm << shift;
}

ssize_t acl_inherit(const void *default_acl, size_t size, mode_t *mode, void *access)
{
	struct acl_entries found;
	mode_t result = *mode;

	memmove(access, default_acl, size);
	if (!acl_find_entries(access, size, &found))
		return -EINVAL;
	result = acl_restrict(found.user_obj, result, 6);
	/* With a mask the group bits of the mode are the mask, and the group's entry stays. */
	result = acl_restrict(found.mask ? found.mask : found.group_obj, result, 3);
	result = acl_restrict(found.other, result, 0);
	*mode = result;
	return size > ACL_HEADER_SIZE + 3 * ACL_ENTRY_SIZE ? (ssize_t)size : 0;
}

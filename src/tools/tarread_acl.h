/* SPDX-License-Identifier: MIT */
/* POSIX ACLs of an archive's entry, which tar programs write as text, as extended attributes. */
#ifndef VENEER_TOOLS_TARREAD_ACL_H
#define VENEER_TOOLS_TARREAD_ACL_H

#include <stdbool.h>
#include <sys/types.h>

#include "tools/tarlib.h"

/*
 * Puts the value of the access ACL of @entry, or of the default one, into @value; nothing if it has
 * none. 0, -ENOMEM, or -EBADMSG: it names somebody by a name alone.
 */
int tarread_acl(const struct tarlib *lib, struct archive_entry *entry, bool is_default,
		struct strbuf *value);
/*
 * The mode of @entry: with an ACL its group's bits are the mask, as the kernel has it, where
 * libarchive has those of the group.
 */
mode_t tarread_acl_mode(const struct tarlib *lib, struct archive_entry *entry);

#endif

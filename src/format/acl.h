/* SPDX-License-Identifier: MIT */
/*
 * POSIX ACLs as extended attribute values (linux/posix_acl_xattr.h, version 2).
 *
 * Needed where an object is prepared in the work directory and so cannot
 * inherit from the directory it will live in.
 */
#ifndef VENEER_FORMAT_ACL_H
#define VENEER_FORMAT_ACL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ACL_XATTR_ACCESS "system.posix_acl_access"
#define ACL_XATTR_DEFAULT "system.posix_acl_default"

/*
 * What a new object inherits from its parent's default ACL (POSIX 1003.1e draft 17, 23.1.4;
 * kernel posix_acl_create): the access ACL's permissions masked by *@mode, and *@mode by it.
 * @access needs @size bytes. Returns the size of the access ACL, 0 if mode bits say it all,
 * or -EINVAL for a value that is no ACL.
 */
ssize_t acl_inherit(const void *default_acl, size_t size, mode_t *mode, void *access);

#endif

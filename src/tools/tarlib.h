/* SPDX-License-Identifier: MIT */
/*
 * libarchive, loaded when an archive is first dealt with.
 *
 * It brings a dozen other libraries with it, whose loading would double the time
 * that a mount takes, and which the daemon would keep in memory for nothing.
 */
#ifndef VENEER_TOOLS_TARLIB_H
#define VENEER_TOOLS_TARLIB_H

#include <archive.h>
#include <archive_entry.h>

#include "base/strbuf.h"

/* Every function of it that is in use. */
#define TARLIB_FUNCTIONS(X)                      \
	X(archive_entry_acl_next)                \
	X(archive_entry_acl_reset)               \
	X(archive_entry_clear)                   \
	X(archive_entry_copy_hardlink)           \
	X(archive_entry_copy_pathname)           \
	X(archive_entry_copy_symlink)            \
	X(archive_entry_free)                    \
	X(archive_entry_gid)                     \
	X(archive_entry_hardlink)                \
	X(archive_entry_mode)                    \
	X(archive_entry_mtime)                   \
	X(archive_entry_mtime_nsec)              \
	X(archive_entry_new)                     \
	X(archive_entry_pathname)                \
	X(archive_entry_rdevmajor)               \
	X(archive_entry_rdevminor)               \
	X(archive_entry_set_gid)                 \
	X(archive_entry_set_mode)                \
	X(archive_entry_set_mtime)               \
	X(archive_entry_set_rdevmajor)           \
	X(archive_entry_set_rdevminor)           \
	X(archive_entry_set_size)                \
	X(archive_entry_set_uid)                 \
	X(archive_entry_size)                    \
	X(archive_entry_sparse_add_entry)        \
	X(archive_entry_symlink)                 \
	X(archive_entry_uid)                     \
	X(archive_entry_xattr_add_entry)         \
	X(archive_entry_xattr_next)              \
	X(archive_entry_xattr_reset)             \
	X(archive_errno)                         \
	X(archive_error_string)                  \
	X(archive_filter_bytes)                  \
	X(archive_read_data_block)               \
	X(archive_read_free)                     \
	X(archive_read_header_position)          \
	X(archive_read_new)                      \
	X(archive_read_next_header)              \
	X(archive_read_open_fd)                  \
	X(archive_read_support_filter_bzip2)     \
	X(archive_read_support_filter_gzip)      \
	X(archive_read_support_filter_xz)        \
	X(archive_read_support_filter_zstd)      \
	X(archive_read_support_format_tar)       \
	X(archive_write_add_filter_gzip)         \
	X(archive_write_add_filter_zstd)         \
	X(archive_write_close)                   \
	X(archive_write_data)                    \
	X(archive_write_fail)                    \
	X(archive_write_free)                    \
	X(archive_write_header)                  \
	X(archive_write_new)                     \
	X(archive_write_open_fd)                 \
	X(archive_write_set_bytes_in_last_block) \
	X(archive_write_set_filter_option)       \
	X(archive_write_set_format_option)       \
	X(archive_write_set_format_pax)

#define TARLIB_MEMBER(name) __typeof__(name) *name;
struct tarlib {
	TARLIB_FUNCTIONS(TARLIB_MEMBER)
};
#undef TARLIB_MEMBER

/* The functions, which stay loaded; NULL: tarlib_check() says why. Main thread. */
const struct tarlib *tarlib_get(void);
/* 0, or -ENOENT with a sentence in @why: the library, or a function in it, is not there. */
int tarlib_check(struct strbuf *why);

#endif

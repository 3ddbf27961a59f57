/* SPDX-License-Identifier: MIT */
/* getdents64(2) with its own offsets: a stream that can be resumed at any d_off. */
#ifndef VENEER_SYS_DIR_H
#define VENEER_SYS_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sys_dirent {
	uint64_t ino;
	uint64_t offset; /* of the entry after this one: seek here to go on */
	unsigned char type; /* DT_* */
	const char *name; /* NUL-terminated, within the buffer */
	uint16_t name_length;
};

/* Fills @buf; returns the bytes used, 0 at the end, or -errno. */
int sys_getdents(int fd, void *buf, size_t size);
/*
 * Takes the entry at *@position of @size valid bytes and advances.  Returns 1, or 0 at the end
 * of the buffer, or -EIO if the kernel's answer makes no sense.  "." and ".." are included.
 */
int sys_dirent_next(const void *buf, size_t size, size_t *position, struct sys_dirent *entry);

/*
 * Calls @visit for every entry of the directory @fd (from its start; "." and ".." left out)
 * until it returns non-zero; returns that, or 0, or -errno.
 */
int sys_dir_for_each(int fd, int (*visit)(const struct sys_dirent *entry, void *context),
		     void *context);

/*
 * True if a name in the directory @fd (not O_PATH), of a file system with the f_type @magic, is found
 * exactly if it is listed, byte for byte. False also if that cannot be told: file systems may
 * ignore case, compose characters, have names that they do not list, or encrypt what they list.
 */
bool sys_dir_lists_all(int fd, long magic);

#endif

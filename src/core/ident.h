/* SPDX-License-Identifier: MIT */
/*
 * Inode numbers of the union, made from (file system, real inode number).
 *
 * Objects of the first file system (the upper's) keep their number.  The
 * others' get their file system's place in the table in the top bits, as xino
 * does in the kernel.  A number that does not leave those bits free is hashed
 * into the rest, always in the same way, so the next mount of the same layers
 * gives it again; a table sees to it that no two of them meet.
 */
#ifndef VENEER_CORE_IDENT_H
#define VENEER_CORE_IDENT_H

#include <stdint.h>
#include <sys/types.h>

#include "base/lock.h"

struct ident_number; /* one entry of the overflow table */

struct ident {
	struct lock_mutex lock; /* guards everything below */
	dev_t *devs; /* file systems met, in order */
	unsigned int dev_count, dev_size;
	struct ident_number **numbers; /* hash table */
	uint64_t number_count, number_buckets;
};

void ident_init(struct ident *ident);
void ident_deinit(struct ident *ident);
/* Registers a file system; the first one is number 0. 0 or -ENOMEM. */
int ident_add_dev(struct ident *ident, dev_t dev);
/* The union's inode number for the object (@dev, @ino). Never 0 unless out of memory. */
uint64_t ident_ino(struct ident *ident, dev_t dev, uint64_t ino);

#endif

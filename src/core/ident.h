/* SPDX-License-Identifier: MIT */
/*
 * Inode numbers of the union, made from (file system, real inode number).
 *
 * Objects of the first file system (the upper's) keep their number.  The
 * others' get their file system's place in the table in the top bits, as xino
 * does in the kernel.  A number that does not leave those bits free is hashed
 * into the rest, always in the same way, so the next mount of the same layers
 * gives it again; a table sees to it that no two of them meet.  A file system
 * inside a layer has a place made from where it was met.  A device that
 * begins nowhere, as an overlay shows of its files, is hashed with the number.
 */
#ifndef VENEER_CORE_IDENT_H
#define VENEER_CORE_IDENT_H

#include <stdint.h>
#include <sys/types.h>

#include "base/lock.h"

struct ident_dev; /* a file system's place */
struct ident_number; /* one entry of the overflow table */

struct ident {
	struct lock_mutex lock; /* guards everything below */
	struct ident_dev *devs; /* file systems met; owned, as is numbers */
	unsigned int dev_count, dev_size;
	struct ident_number **numbers; /* hash table */
	uint64_t number_count, number_buckets;
};

void ident_init(struct ident *ident);
void ident_deinit(struct ident *ident);
/* Registers the file system of a layer; the first one is number 0. 0 or -ENOMEM. */
int ident_add_dev(struct ident *ident, dev_t dev);
/*
 * Registers a file system that begins at @name in the directory (@dev, @ino) of another (a
 * subvolume of btrfs): its place comes from that, whatever is met in which order.
 */
void ident_meet_dev(struct ident *ident, dev_t dev, uint64_t ino, const char *name, dev_t met);
/* The union's inode number for the object (@dev, @ino). Never 0 unless out of memory. */
uint64_t ident_ino(struct ident *ident, dev_t dev, uint64_t ino);

#endif

/* SPDX-License-Identifier: MIT */
/* Inode numbers of the union. */
#include "core/ident.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/hash.h"

#define IDENT_DEV_BITS 12
#define IDENT_INO_BITS (64 - IDENT_DEV_BITS)
#define IDENT_DEV_MAX ((1u << IDENT_DEV_BITS) - 1)
/* The highest place stands for "from the overflow table". */
#define IDENT_DEV_OVERFLOW IDENT_DEV_MAX

struct ident_number {
	struct ident_number *next;
	dev_t dev;
	uint64_t ino, number;
};

void ident_init(struct ident *ident)
{
	*ident = (struct ident){ 0 };
	lock_mutex_init(&ident->lock, LOCK_RANK_LEAF);
}

void ident_deinit(struct ident *ident)
{
	for (uint64_t i = 0; i < ident->number_buckets; i++) {
		while (ident->numbers[i]) {
			struct ident_number *next = ident->numbers[i]->next;

			free(ident->numbers[i]);
			ident->numbers[i] = next;
		}
	}
	free(ident->numbers);
	free(ident->devs);
	lock_mutex_deinit(&ident->lock);
}

/* The place of @dev in the table, added if new; -ENOMEM. */
static int ident_dev_index_locked(struct ident *ident, dev_t dev)
{
	for (unsigned int i = 0; i < ident->dev_count; i++) {
		if (ident->devs[i] == dev)
			return i;
	}
	if (ident->dev_count == ident->dev_size) {
		unsigned int size = ident->dev_size ? 2 * ident->dev_size : 8;
		dev_t *devs = realloc(ident->devs, size * sizeof(*devs));

		if (!devs)
			return -ENOMEM;
		ident->devs = devs;
		ident->dev_size = size;
	}
	ident->devs[ident->dev_count] = dev;
	return ident->dev_count++;
}

int ident_add_dev(struct ident *ident, dev_t dev)
{
	lock_mutex_lock(&ident->lock);
	int r = ident_dev_index_locked(ident, dev);

	lock_mutex_unlock(&ident->lock);
	return r < 0 ? r : 0;
}

/* Doubles the overflow table when it is full; failing to is harmless. */
static void ident_grow_locked(struct ident *ident)
{
	uint64_t buckets = ident->number_buckets ? 2 * ident->number_buckets : 64;
	struct ident_number **numbers = calloc(buckets, sizeof(*numbers));

	if (!numbers)
		return;
	for (uint64_t i = 0; i < ident->number_buckets; i++) {
		while (ident->numbers[i]) {
			struct ident_number *n = ident->numbers[i];
			uint64_t to = hash_u64(n->dev, n->ino) & (buckets - 1);

			ident->numbers[i] = n->next;
			n->next = numbers[to];
			numbers[to] = n;
		}
	}
	free(ident->numbers);
	ident->numbers = numbers;
	ident->number_buckets = buckets;
}

static uint64_t ident_overflow_locked(struct ident *ident, dev_t dev, uint64_t ino)
{
	if (ident->number_count >= ident->number_buckets)
		ident_grow_locked(ident);
	if (!ident->number_buckets)
		return 0;
	struct ident_number **bucket =
		&ident->numbers[hash_u64(dev, ino) & (ident->number_buckets - 1)];

	for (struct ident_number *n = *bucket; n; n = n->next) {
		if (n->dev == dev && n->ino == ino)
			return n->number;
	}
	struct ident_number *n = malloc(sizeof(*n));

	if (!n)
		return 0;
	*n = (struct ident_number){
		.next = *bucket,
		.dev = dev,
		.ino = ino,
		.number = (uint64_t)IDENT_DEV_OVERFLOW << IDENT_INO_BITS | ++ident->number_count,
	};
	*bucket = n;
	return n->number;
}

uint64_t ident_ino(struct ident *ident, dev_t dev, uint64_t ino)
{
	uint64_t number;

	lock_mutex_lock(&ident->lock);
	int index = ident_dev_index_locked(ident, dev);
	bool fits = ino >> IDENT_INO_BITS == 0;

	if (index == 0 && fits)
		number = ino;
	else if (index < 0 || index >= (int)IDENT_DEV_OVERFLOW || !fits)
		number = ident_overflow_locked(ident, dev, ino);
	else
		number = (uint64_t)index << IDENT_INO_BITS | ino;
	lock_mutex_unlock(&ident->lock);
	return number;
}

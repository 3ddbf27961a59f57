/* SPDX-License-Identifier: MIT */
/* Inode numbers of the union. */
#include "core/ident.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define IDENT_DEV_BITS 12
#define IDENT_INO_BITS (64 - IDENT_DEV_BITS)
#define IDENT_INO_MASK ((UINT64_C(1) << IDENT_INO_BITS) - 1)
#define IDENT_DEV_MAX ((1u << IDENT_DEV_BITS) - 1)
/* The highest place stands for "from the overflow table". */
#define IDENT_DEV_OVERFLOW IDENT_DEV_MAX

struct ident_dev {
	dev_t dev;
	unsigned int place; /* the upper bits of its numbers; each place is one file system's */
};

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

static bool ident_is_taken_locked(const struct ident *ident, unsigned int place)
{
	for (unsigned int i = 0; i < ident->dev_count; i++) {
		if (ident->devs[i].place == place)
			return true;
	}
	return false;
}

/* Adds @dev at the first free place from @place on; beyond the last one it has none of its own. */
static int ident_add_dev_locked(struct ident *ident, dev_t dev, unsigned int place)
{
	while (place < IDENT_DEV_OVERFLOW && ident_is_taken_locked(ident, place))
		place++;
	if (ident->dev_count == ident->dev_size) {
		unsigned int size = ident->dev_size ? 2 * ident->dev_size : 8;
		struct ident_dev *devs = realloc(ident->devs, size * sizeof(*devs));

		if (!devs)
			return -ENOMEM;
		ident->devs = devs;
		ident->dev_size = size;
	}
	ident->devs[ident->dev_count++] = (struct ident_dev){ .dev = dev, .place = place };
	return (int)place;
}

/* The place of @dev; -ENOENT. */
static int ident_find_dev_locked(const struct ident *ident, dev_t dev)
{
	for (unsigned int i = 0; i < ident->dev_count; i++) {
		if (ident->devs[i].dev == dev)
			return (int)ident->devs[i].place;
	}
	return -ENOENT;
}

int ident_add_dev(struct ident *ident, dev_t dev)
{
	lock_mutex_lock(&ident->lock);
	int r = ident_find_dev_locked(ident, dev);

	if (r == -ENOENT)
		r = ident_add_dev_locked(ident, dev, 0);
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
			uint64_t to = n->number & (buckets - 1);

			ident->numbers[i] = n->next;
			n->next = numbers[to];
			numbers[to] = n;
		}
	}
	free(ident->numbers);
	ident->numbers = numbers;
	ident->number_buckets = buckets;
}

/*
 * 52 bits from a file system's place and a 64-bit number, without a key: the same at every mount.
 * (The finaliser of splitmix64: a bijection before the cut.)
 */
static uint64_t ident_scramble(uint64_t place, uint64_t ino)
{
	uint64_t x = ino + place * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (x ^ x >> 31) & IDENT_INO_MASK;
}

void ident_meet_dev(struct ident *ident, dev_t dev, uint64_t ino, const char *name, dev_t met)
{
	lock_mutex_lock(&ident->lock);
	if (ident_find_dev_locked(ident, met) == -ENOENT) {
		int place = ident_find_dev_locked(ident, dev);
		uint64_t key = ident_scramble(place < 0 ? 0 : (uint64_t)place, ino);

		for (; *name; name++)
			key = ident_scramble((unsigned char)*name, key);
		/* Away from the start, where the layers' file systems are. */
		ident_add_dev_locked(ident, met,
				     IDENT_DEV_OVERFLOW / 4 + key % (IDENT_DEV_OVERFLOW / 2));
	}
	lock_mutex_unlock(&ident->lock);
}

/* The entry of @number, or NULL: it is free. */
static struct ident_number *ident_find_number_locked(const struct ident *ident, uint64_t number)
{
	struct ident_number *n = ident->numbers[number & (ident->number_buckets - 1)];

	while (n && n->number != number)
		n = n->next;
	return n;
}

static uint64_t ident_overflow_locked(struct ident *ident, uint64_t place, dev_t dev, uint64_t ino)
{
	if (ident->number_count >= ident->number_buckets)
		ident_grow_locked(ident);
	if (!ident->number_buckets)
		return 0;
	uint64_t number = ident_scramble(place, ino);
	struct ident_number *n = ident_find_number_locked(ident, number);

	/* Taken by another: the next one. Entries are never removed, so this finds them again. */
	while (n && (n->dev != dev || n->ino != ino)) {
		number = (number + 1) & IDENT_INO_MASK;
		n = ident_find_number_locked(ident, number);
	}
	if (!n) {
		struct ident_number **bucket =
			&ident->numbers[number & (ident->number_buckets - 1)];

		n = malloc(sizeof(*n));
		if (!n)
			return 0;
		*n = (struct ident_number){
			.next = *bucket,
			.dev = dev,
			.ino = ino,
			.number = number,
		};
		*bucket = n;
		ident->number_count++;
	}
	return (uint64_t)IDENT_DEV_OVERFLOW << IDENT_INO_BITS | number;
}

uint64_t ident_ino(struct ident *ident, dev_t dev, uint64_t ino)
{
	uint64_t number;

	lock_mutex_lock(&ident->lock);
	int place = ident_find_dev_locked(ident, dev);
	bool fits = ino >> IDENT_INO_BITS == 0;

	if (place == 0 && fits)
		number = ino;
	else if (place < 0 || place >= (int)IDENT_DEV_OVERFLOW || !fits)
		/* A device that begins nowhere has no place that the next mount would give it. */
		number = ident_overflow_locked(ident, place < 0 ? dev : (uint64_t)place, dev, ino);
	else
		number = (uint64_t)place << IDENT_INO_BITS | ino;
	lock_mutex_unlock(&ident->lock);
	return number;
}

/* SPDX-License-Identifier: MIT */
/* SipHash-1-3 (Aumasson, Bernstein 2012): short inputs, hostile input, 64-bit machine. */
#include "base/hash.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

/* Written once by hash_init() before there are threads. */
static uint64_t hash_key[2];

struct hash_state {
	uint64_t v0, v1, v2, v3;
};

void hash_init(void)
{
	ssize_t got = getrandom(hash_key, sizeof(hash_key), 0);

	/* 16 bytes are never short once the pool is ready, and flags 0 waits for that. */
	assert(got == sizeof(hash_key));
	(void)got;
}

static inline uint64_t hash_rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void hash_round(struct hash_state *s)
{
	s->v0 += s->v1;
	s->v1 = hash_rotate(s->v1, 13) ^ s->v0;
	s->v0 = hash_rotate(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = hash_rotate(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = hash_rotate(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = hash_rotate(s->v1, 17) ^ s->v2;
	s->v2 = hash_rotate(s->v2, 32);
}

static inline void hash_start(struct hash_state *s, uint64_t seed)
{
	uint64_t k0 = hash_key[0] ^ seed;
	uint64_t k1 = hash_key[1];

	s->v0 = k0 ^ 0x736f6d6570736575ULL;
	s->v1 = k1 ^ 0x646f72616e646f6dULL;
	s->v2 = k0 ^ 0x6c7967656e657261ULL;
	s->v3 = k1 ^ 0x7465646279746573ULL;
}

static inline void hash_mix(struct hash_state *s, uint64_t word)
{
	s->v3 ^= word;
	hash_round(s);
	s->v0 ^= word;
}

static inline uint64_t hash_end(struct hash_state *s)
{
	s->v2 ^= 0xff;
	hash_round(s);
	hash_round(s);
	hash_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t hash_bytes(const void *data, size_t size, uint64_t seed)
{
	const unsigned char *at = data;
	uint64_t last = (uint64_t)size << 56;
	size_t left = size;
	struct hash_state s;
	uint64_t word;

	hash_start(&s, seed);
	for (; left >= sizeof(word); at += sizeof(word), left -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		hash_mix(&s, word);
	}
	while (left > 0) {
		left--;
		last |= (uint64_t)at[left] << (8 * left);
	}
	hash_mix(&s, last);
	return hash_end(&s);
}

uint64_t hash_u64(uint64_t a, uint64_t b)
{
	struct hash_state s;

	hash_start(&s, 0);
	hash_mix(&s, a);
	hash_mix(&s, b);
	return hash_end(&s);
}

/* SPDX-License-Identifier: MIT */
/*
 * Keyed hashing of names and numbers.  The key is random per process, so file
 * names chosen by an attacker cannot make the tables slow.
 */
#ifndef VENEER_BASE_HASH_H
#define VENEER_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Sets the process' key from getrandom(2); called once before any hashing. */
void hash_init(void);
/* Hash of @size bytes, mixed with @seed. */
uint64_t hash_bytes(const void *data, size_t size, uint64_t seed);
/* Hash of two numbers. */
uint64_t hash_u64(uint64_t a, uint64_t b);

#endif

/* SPDX-License-Identifier: MIT */
/* The protattr attribute: append-only and immutable flags, kept beside the file. */
#ifndef VENEER_FORMAT_PROTATTR_H
#define VENEER_FORMAT_PROTATTR_H

#include <stddef.h>

#define PROTATTR_APPEND 1u /* 'a' */
#define PROTATTR_IMMUTABLE 2u /* 'i' */
#define PROTATTR_SIZE_MAX 32

/* Letters to flags; 0 if any letter is unknown, as in the kernel, which then warns. */
unsigned int protattr_decode(const char *value, size_t size);
/* Flags to letters ("ai", in the kernel's order); returns their number. */
size_t protattr_encode(unsigned int flags, char out[PROTATTR_SIZE_MAX]);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share.  A target is LLVMFuzzerTestOneInput(): linked
 * with libFuzzer it searches for inputs, linked with driver.c it goes through
 * the committed ones as a regression test.
 */
#ifndef VENEER_TESTS_FUZZ_H
#define VENEER_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold for every input; ends the program where it does not. */
#define fuzz_check(condition) ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))
_Noreturn void fuzz_fail(const char *condition, const char *file, int line);

/* Memory is never what a target is about: no memory ends the program. */
void *fuzz_alloc(size_t size);
/* A copy in an allocation of exactly @size bytes, so that a sanitizer sees each byte too far. */
void *fuzz_copy(const void *data, size_t size);

/* Input that is used up piece by piece; at its end everything is zero and empty. */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

uint8_t fuzz_take_u8(struct fuzz_input *input);
uint32_t fuzz_take_u32(struct fuzz_input *input);
/* Borrows up to @size bytes; their number in *@got. */
const uint8_t *fuzz_take(struct fuzz_input *input, size_t size, size_t *got);
/* All that is left up to the first NUL, as a string of its own. */
char *fuzz_take_string(struct fuzz_input *input);

#endif

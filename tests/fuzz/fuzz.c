/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

void fuzz_fail(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
	abort();
}

void *fuzz_alloc(size_t size)
{
	void *memory = malloc(MAX(size, (size_t)1));

	fuzz_check(memory);
	return memory;
}

void *fuzz_copy(const void *data, size_t size)
{
	void *copy = malloc(size);

	fuzz_check(copy || size == 0);
	if (size)
		memcpy(copy, data, size);
	return copy;
}

uint8_t fuzz_take_u8(struct fuzz_input *input)
{
	if (input->size == 0)
		return 0;
	input->size--;
	return *input->data++;
}

uint32_t fuzz_take_u32(struct fuzz_input *input)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++)
		value |= (uint32_t)fuzz_take_u8(input) << (8 * i);
	return value;
}

const uint8_t *fuzz_take(struct fuzz_input *input, size_t size, size_t *got)
{
	const uint8_t *data = input->data;

	*got = MIN(size, input->size);
	input->data += *got;
	input->size -= *got;
	return data;
}

char *fuzz_take_string(struct fuzz_input *input)
{
	size_t length = strnlen((const char *)input->data, input->size);
	char *string = fuzz_alloc(length + 1);

	memcpy(string, input->data, length);
	string[length] = '\0';
	input->data += length;
	input->size -= length;
	if (input->size > 0) { /* the NUL */
		input->data++;
		input->size--;
	}
	return string;
}

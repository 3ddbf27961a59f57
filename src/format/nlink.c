/* SPDX-License-Identifier: MIT */
#include "format/nlink.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

/* Digits only, at least one; false on overflow of int. */
static bool nlink_parse_delta(const char *digits, size_t size, bool negative, int *delta)
{
	long long value = 0;

	if (size == 0)
		return false;
	for (size_t i = 0; i < size; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return false;
		value = value * 10 + (digits[i] - '0');
		/* INT_MIN is one further away than INT_MAX. */
		if (value > INT_MAX + (negative ? 1LL : 0LL))
			return false;
	}
	*delta = (int)(negative ? -value : value);
	return true;
}

int nlink_decode(const char *value, size_t size, struct nlink *nlink)
{
	int delta;

	if (size < 3 || (value[0] != 'U' && value[0] != 'L') ||
	    (value[1] != '+' && value[1] != '-'))
		return -EIO;
	if (!nlink_parse_delta(value + 2, size - 2, value[1] == '-', &delta))
		return -EIO;
	*nlink = (struct nlink){ .of_upper = value[0] == 'U', .delta = delta };
	return 0;
}

size_t nlink_encode(const struct nlink *nlink, char out[NLINK_SIZE_MAX])
{
	return (size_t)snprintf(out, NLINK_SIZE_MAX, "%c%+d", nlink->of_upper ? 'U' : 'L',
				nlink->delta);
}

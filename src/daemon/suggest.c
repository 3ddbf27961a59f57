/* SPDX-License-Identifier: MIT */
#include "daemon/suggest.h"

#include <stddef.h>
#include <string.h>

#include "base/util.h"

#define SUGGEST_WORD_MAX 32
/* More changes than this, and it is another word. */
#define SUGGEST_DISTANCE_MAX 3

/* Letters to insert, remove or replace to make one word of the other. */
static unsigned int suggest_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	unsigned int row[SUGGEST_WORD_MAX + 1];

	for (unsigned int j = 0; j <= b_length; j++)
		row[j] = j;
	for (unsigned int i = 1; i <= a_length; i++) {
		unsigned int diagonal = row[0];

		row[0] = i;
		for (unsigned int j = 1; j <= b_length; j++) {
			unsigned int above = row[j];
			unsigned int best = diagonal + (a[i - 1] != b[j - 1]);

			best = MIN(best, above + 1);
			best = MIN(best, row[j - 1] + 1);
			row[j] = best;
			diagonal = above;
		}
	}
	return row[b_length];
}

void suggest_offer(struct suggest *suggest, const char *given, const char *known)
{
	size_t given_length = strlen(given), known_length = strlen(known);
	unsigned int distance;

	if (given_length > SUGGEST_WORD_MAX || known_length > SUGGEST_WORD_MAX)
		return;
	distance = suggest_distance(given, given_length, known, known_length);
	/* Of a short word nothing may be left. */
	if (distance >= suggest->distance || distance * 2 > given_length)
		return;
	suggest->word = known;
	suggest->distance = distance;
}

const char *suggest_best(const struct suggest *suggest)
{
	return suggest->distance <= SUGGEST_DISTANCE_MAX ? suggest->word : NULL;
}

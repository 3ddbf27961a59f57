/* SPDX-License-Identifier: MIT */
/* "Did you mean": the closest of some words. */
#ifndef VENEER_DAEMON_SUGGEST_H
#define VENEER_DAEMON_SUGGEST_H

struct suggest {
	const char *word;
	unsigned int distance;
};

#define SUGGEST_INIT ((struct suggest){ .distance = ~0U })

/* @known is kept if it is closer to what was @given than those before. */
void suggest_offer(struct suggest *suggest, const char *given, const char *known);
/* The closest, or NULL if none is close enough to be meant. */
const char *suggest_best(const struct suggest *suggest);

#endif

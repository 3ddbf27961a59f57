/* SPDX-License-Identifier: MIT */
/* The value of lowerdir=: `a:b:c[::data1::data2]`, '\' escapes the next character. */
#ifndef VENEER_FORMAT_LOWERDIR_H
#define VENEER_FORMAT_LOWERDIR_H

#include <stdbool.h>
#include <stddef.h>

struct lowerdir {
	char *path; /* unescaped */
	bool data_only;
};

struct lowerdir_list {
	struct lowerdir *items;
	size_t count;
};

/*
 * Parses into *@list, which need not be initialised and then is the caller's
 * (lowerdir_list_deinit); an empty value is an empty list. Returns 0, -ENOMEM, or -EINVAL with
 * *@why set to a constant sentence (":::", leading or trailing colon, data layer before a merge
 * layer, ...).
 */
int lowerdir_parse(const char *value, struct lowerdir_list *list, const char **why);
/* Adds one layer without any unescaping (lowerdir+=, datadir+=). 0 or -ENOMEM. */
int lowerdir_list_add(struct lowerdir_list *list, const char *path, bool data_only);
void lowerdir_list_deinit(struct lowerdir_list *list);

#endif

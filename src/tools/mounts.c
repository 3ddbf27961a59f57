/* SPDX-License-Identifier: MIT */
#include "tools/mounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"

#define MOUNTS_TABLE "/proc/self/mountinfo"
#define MOUNTS_TYPE "fuse.veneer"
#define MOUNTS_OWNER "user_id="

/* proc(5): space, tab, newline and backslash come as three octal digits. In place. */
static void mounts_unescape(char *text)
{
	char *to = text;

	while (*text) {
		unsigned int byte;

		if (*text == '\\' && sscanf(text + 1, "%3o", &byte) == 1 && strlen(text) > 3) {
			*to++ = (char)byte;
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = '\0';
}

/* The value of user_id= among the file system's options. */
static uid_t mounts_owner(const char *options)
{
	const char *at = strstr(options, MOUNTS_OWNER);

	return at ? (uid_t)strtoul(at + strlen(MOUNTS_OWNER), NULL, 10) : (uid_t)-1;
}

/*
 * "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": the number of
 * fields before the dash varies. False if the line is not of this form.
 */
static bool mounts_parse(char *line, struct mounts_entry *entry)
{
	char *save = NULL, *fields[6], *word;
	unsigned int dev_major, dev_minor;

	for (size_t i = 0; i < 6; i++) {
		fields[i] = strtok_r(i ? NULL : line, " \n", &save);
		if (!fields[i])
			return false;
	}
	do
		word = strtok_r(NULL, " \n", &save);
	while (word && strcmp(word, "-") != 0);
	if (!word || sscanf(fields[2], "%u:%u", &dev_major, &dev_minor) != 2)
		return false;
	char *type = strtok_r(NULL, " \n", &save);
	char *source = strtok_r(NULL, " \n", &save);
	char *options = strtok_r(NULL, " \n", &save);

	/* An empty source leaves the options in its place. */
	if (!options)
		options = source;
	if (!type || !options)
		return false;
	mounts_unescape(fields[3]);
	mounts_unescape(fields[4]);
	*entry = (struct mounts_entry){
		.id = strtoull(fields[0], NULL, 10),
		.dev = makedev(dev_major, dev_minor),
		.point = fields[4],
		.root = fields[3],
		.type = type,
		.source = source == options ? "" : source,
		.is_whole = !strcmp(fields[3], "/"),
		.owner = mounts_owner(options),
	};
	return true;
}

/* Adds a copy of @entry, whose strings are borrowed. */
static int mounts_add(struct mounts *mounts, const struct mounts_entry *entry)
{
	struct mounts_entry *more = reallocarray(mounts->entries, mounts->count + 1, sizeof(*more));
	struct mounts_entry *added;

	if (!more)
		return -ENOMEM;
	mounts->entries = more;
	added = &more[mounts->count++];
	*added = *entry;
	added->point = strdup(entry->point);
	added->type = strdup(entry->type);
	added->root = strdup(entry->root);
	added->source = strdup(entry->source);
	return added->point && added->type && added->root && added->source ? 0 : -ENOMEM;
}

int mounts_read(struct mounts *mounts)
{
	_cleanup_fclose_ FILE *file = fopen(MOUNTS_TABLE, "re");
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;
	int r = 0;

	*mounts = MOUNTS_INIT;
	if (!file)
		return -errno;
	while (r == 0 && getline(&line, &capacity, file) >= 0) {
		struct mounts_entry entry;

		if (mounts_parse(line, &entry))
			r = mounts_add(mounts, &entry);
	}
	return r == 0 && ferror(file) ? -EIO : r;
}

void mounts_deinit(struct mounts *mounts)
{
	for (size_t i = 0; i < mounts->count; i++) {
		free(mounts->entries[i].point);
		free(mounts->entries[i].source);
		free(mounts->entries[i].type);
		free(mounts->entries[i].root);
	}
	free(mounts->entries);
	*mounts = MOUNTS_INIT;
}

const struct mounts_entry *mounts_find(const struct mounts *mounts, unsigned long long id)
{
	for (size_t i = 0; i < mounts->count; i++)
		if (mounts->entries[i].id == id)
			return &mounts->entries[i];
	return NULL;
}

bool mounts_is_fuse(const struct mounts_entry *entry)
{
	return !strcmp(entry->type, "fuse") || !strncmp(entry->type, "fuse.", 5);
}

bool mounts_is_veneer(const struct mounts_entry *entry)
{
	return !strcmp(entry->type, MOUNTS_TYPE);
}

bool mounts_is_own(const struct mounts *mounts, const struct mounts_entry *entry)
{
	if (!mounts_is_veneer(entry) || entry->owner != geteuid())
		return false;
	for (const struct mounts_entry *at = mounts->entries; at < mounts->entries + mounts->count;
	     at++) {
		if (at == entry || at->dev != entry->dev)
			continue;
		/* Bind mounts of one file system. */
		if (at->is_whole != entry->is_whole ? at->is_whole : at < entry)
			return false;
	}
	return true;
}

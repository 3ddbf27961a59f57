/* SPDX-License-Identifier: MIT */
/* What the options of the table do. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/options_table.h"
#include "fuse/fuse.h"

/* Whoever asks for as long a timeout as this (11 days) means for ever. */
#define OPTION_TIMEOUT_FOREVER 1000000.0

#define option_field(options, spec, type) ((type *)((char *)(options) + (spec)->offset))

/* Takes '\' off the character after it, as the kernel does with paths. */
static char *option_unescape(const char *value)
{
	char *text = malloc(strlen(value) + 1);
	char *at = text;

	if (!text)
		return NULL;
	for (; *value; value++) {
		if (value[0] == '\\' && value[1])
			value++;
		*at++ = *value;
	}
	*at = 0;
	return text;
}

int option_lowerdir(struct options *options, const struct option_spec *spec, const char *value,
		    struct strbuf *why)
{
	const char *reason = NULL;
	int r;

	if (options->saw_lowerdir_add) {
		strbuf_append_string(why, "lowerdir= cannot follow lowerdir+= or datadir+=");
		return -EINVAL;
	}
	/* The last one counts; an empty one takes back the others. */
	lowerdir_list_deinit(&options->lowers);
	options->lowers = (struct lowerdir_list){ 0 };
	if (!*value)
		return 0;
	r = lowerdir_parse(value, &options->lowers, &reason);
	if (r == -EINVAL)
		strbuf_append_format(why, "lowerdir=: %s", reason);
	return r;
}

static int option_layer_add(struct options *options, const struct option_spec *spec,
			    const char *value, bool data_only, struct strbuf *why)
{
	_cleanup_free_ char *path = NULL;

	if (options->lowers.count && !options->saw_lowerdir_add)
		strbuf_append_format(why, "%s= cannot follow lowerdir=", spec->name);
	else if (options->saw_datadir && !data_only)
		strbuf_append_string(why, "lowerdir+= cannot follow datadir+=");
	else if (!*value)
		strbuf_append_format(why, "%s= needs a path", spec->name);
	if (why->length)
		return -EINVAL;
	/* Only a comma needs the backslash here. */
	path = strstr(value, "\\,") ? option_unescape(value) : strdup(value);
	if (!path)
		return -ENOMEM;
	options->saw_lowerdir_add = true;
	options->saw_datadir |= data_only;
	return lowerdir_list_add(&options->lowers, path, data_only);
}

int option_lowerdir_add(struct options *options, const struct option_spec *spec, const char *value,
			struct strbuf *why)
{
	return option_layer_add(options, spec, value, false, why);
}

int option_datadir_add(struct options *options, const struct option_spec *spec, const char *value,
		       struct strbuf *why)
{
	return option_layer_add(options, spec, value, true, why);
}

int option_string(struct options *options, const struct option_spec *spec, const char *value,
		  struct strbuf *why)
{
	char **field = option_field(options, spec, char *);
	char *text = option_unescape(value);

	if (!text)
		return -ENOMEM;
	free(*field);
	*field = text;
	return 0;
}

int option_path(struct options *options, const struct option_spec *spec, const char *value,
		struct strbuf *why)
{
	if (!*value) {
		strbuf_append_format(why, "%s= needs a path", spec->name);
		return -EINVAL;
	}
	return option_string(options, spec, value, why);
}

static int option_refuse_choice(const struct options *options, const struct option_spec *spec,
				const struct option_choice *choice, struct strbuf *why)
{
	if (options->lenient) {
		log_warning("mount option '%s=%s' ignored: %s", spec->name, choice->name,
			    choice->refused);
		return 0;
	}
	strbuf_append_format(why, "mount option '%s=%s': %s", spec->name, choice->name,
			     choice->refused);
	return -EINVAL;
}

static int option_no_choice(const struct option_spec *spec, const char *value, struct strbuf *why)
{
	const char *separator = "";

	strbuf_append_format(why, "mount option '%s=%s': it can be ", spec->name, value);
	for (const struct option_choice *c = spec->choices; c->name; c++) {
		if (c->refused)
			continue;
		strbuf_append_format(why, "%s%s", separator, c->name);
		separator = ", ";
	}
	return -EINVAL;
}

/* 1 with *@choice, 0 if it was refused and that is to be put up with, or -EINVAL. */
static int option_find_choice(const struct options *options, const struct option_spec *spec,
			      const char *value, const struct option_choice **choice,
			      struct strbuf *why)
{
	for (const struct option_choice *c = spec->choices; c->name; c++) {
		if (strcmp(c->name, value))
			continue;
		if (c->refused)
			return option_refuse_choice(options, spec, c, why);
		*choice = c;
		return 1;
	}
	return option_no_choice(spec, value, why);
}

int option_choose(struct options *options, const struct option_spec *spec, const char *value,
		  struct strbuf *why)
{
	const struct option_choice *choice;
	/* A flag that stands for one of the words has their name. */
	int r = option_find_choice(options, spec, value ? value : spec->name, &choice, why);

	if (r <= 0)
		return r;
	*option_field(options, spec, int) = choice->value;
	return 0;
}

int option_nothing(struct options *options, const struct option_spec *spec, const char *value,
		   struct strbuf *why)
{
	const struct option_choice *choice;
	int r = spec->choices ? option_find_choice(options, spec, value, &choice, why) : 0;

	return r < 0 ? r : 0;
}

int option_set(struct options *options, const struct option_spec *spec, const char *value,
	       struct strbuf *why)
{
	*option_field(options, spec, bool) = true;
	return 0;
}

int option_mount_flag(struct options *options, const struct option_spec *spec, const char *value,
		      struct strbuf *why)
{
	options->mount_flags &= ~spec->clear;
	options->mount_flags |= spec->set;
	return 0;
}

int option_number(struct options *options, const struct option_spec *spec, const char *value,
		  struct strbuf *why)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(value, &end, 10);
	if (errno || *end || end == value || *value == '-' || number < spec->least ||
	    number > spec->most) {
		strbuf_append_format(why, "mount option '%s=%s': it can be %lu to %lu", spec->name,
				     value, spec->least, spec->most);
		return -EINVAL;
	}
	*option_field(options, spec, unsigned int) = (unsigned int)number;
	return 0;
}

int option_timeout(struct options *options, const struct option_spec *spec, const char *value,
		   struct strbuf *why)
{
	char *end;
	double seconds = strtod(value, &end);

	if (*end || end == value || !isfinite(seconds) || seconds < 0) {
		strbuf_append_format(why, "mount option 'timeout=%s': not a number of seconds",
				     value);
		return -EINVAL;
	}
	options->layers_change = seconds < OPTION_TIMEOUT_FOREVER;
	if (options->layers_change)
		options->timeout = (struct timespec){
			.tv_sec = (time_t)seconds,
			.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9),
		};
	else
		options->timeout = FUSE_VALID_FOREVER;
	return 0;
}

/* For the kernel's security module, quotes and all. */
int option_security(struct options *options, const struct option_spec *spec, const char *value,
		    struct strbuf *why)
{
	strbuf_append_format(&options->security, ",%s=%s", spec->name, value);
	return options->security.failed ? -ENOMEM : 0;
}

int option_pass(struct options *options, const struct option_spec *spec, const char *value,
		struct strbuf *why)
{
	log_info("mount option '%s' ignored: %s", spec->name, spec->text);
	return 0;
}

int option_ignore(struct options *options, const struct option_spec *spec, const char *value,
		  struct strbuf *why)
{
	log_warning("mount option '%s' ignored: %s", options->name, spec->text);
	return 0;
}

int option_refuse_always(struct options *options, const struct option_spec *spec, const char *value,
			 struct strbuf *why)
{
	strbuf_append_format(why, "mount option '%s' cannot be had: %s", spec->name, spec->text);
	return -EINVAL;
}

int option_refuse(struct options *options, const struct option_spec *spec, const char *value,
		  struct strbuf *why)
{
	if (!options->lenient)
		return option_refuse_always(options, spec, value, why);
	log_warning("mount option '%s' ignored: %s", spec->name, spec->text);
	return 0;
}

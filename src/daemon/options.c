/* SPDX-License-Identifier: MIT */
/* Splitting the text of -o, finding each option in the table, saying what is wrong. */
#include "daemon/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "daemon/options_table.h"
#include "daemon/suggest.h"
#include "fuse/fuse.h"

void options_init(struct options *options)
{
	*options = (struct options){
		.redirect = OPTIONS_UNSET,
		.metacopy = OPTIONS_UNSET,
		.index = OPTIONS_UNSET,
		.fsync = CORE_FSYNC_AUTO,
		.timeout = FUSE_VALID_FOREVER,
		.max_nodes = OPTIONS_MAX_NODES,
	};
}

void options_deinit(struct options *options)
{
	lowerdir_list_deinit(&options->lowers);
	free(options->upperdir);
	free(options->workdir);
	free(options->fsname);
	free(options->subtype);
	strbuf_deinit(&options->security);
}

static bool options_matches(const char *pattern, const char *name)
{
	size_t length = strlen(pattern);

	if (pattern[length - 1] == '*')
		return !strncmp(pattern, name, length - 1);
	return !strcmp(pattern, name);
}

static const struct option_spec *options_find(const char *name)
{
	for (const struct option_spec *spec = option_specs; spec->name; spec++)
		if (options_matches(spec->name, name))
			return spec;
	return NULL;
}

static int options_unknown(const struct options *options, const char *name, struct strbuf *why)
{
	struct suggest suggest = SUGGEST_INIT;
	const char *close;

	for (const struct option_spec *spec = option_specs; spec->name; spec++)
		if (spec->is_listed)
			suggest_offer(&suggest, name, spec->name);
	close = suggest_best(&suggest);
	if (options->lenient) {
		log_warning("unknown mount option '%s' ignored", name);
		return 0;
	}
	strbuf_append_format(why, "unknown mount option '%s'", name);
	if (close)
		strbuf_append_format(why, "; did you mean '%s'?", close);
	return -EINVAL;
}

/* One option, "name" or "name=value", which is taken apart in place. */
static int options_apply(struct options *options, char *text, struct strbuf *why)
{
	char *value = strchr(text, '=');
	const struct option_spec *spec;

	if (value)
		*value++ = 0;
	options->name = text;
	spec = options_find(text);
	if (!spec)
		return options_unknown(options, text, why);
	if (spec->argument == OPTION_VALUE && !value) {
		strbuf_append_format(why, "mount option '%s' needs a value: %s=...", text, text);
		return -EINVAL;
	}
	if (spec->argument == OPTION_NO_VALUE && value) {
		strbuf_append_format(why, "mount option '%s' takes no value", text);
		return -EINVAL;
	}
	return spec->apply(options, spec, value, why);
}

/*
 * Length of the option at the start of @text: up to a comma that is neither escaped nor within
 * a value in double quotes (as libmount passes SELinux labels on).
 */
static size_t options_length(const char *text)
{
	bool in_quotes = false;
	size_t i;

	for (i = 0; text[i]; i++) {
		if (text[i] == '\\' && text[i + 1]) {
			i++;
		} else if (text[i] == '"') {
			if (in_quotes)
				in_quotes = false;
			else
				in_quotes = i > 0 && text[i - 1] == '=' &&
					    strchr(text + i + 1, '"');
		} else if (text[i] == ',' && !in_quotes) {
			break;
		}
	}
	return i;
}

int options_parse(struct options *options, const char *text, struct strbuf *why)
{
	while (*text) {
		size_t length = options_length(text);
		_cleanup_free_ char *option = strndup(text, length);
		int r = 0;

		if (!option)
			return -ENOMEM;
		/* ",," and a comma at the end are common where options are put together. */
		if (length)
			r = options_apply(options, option, why);
		if (r < 0)
			return r;
		text += length;
		text += *text == ',';
	}
	return 0;
}

static void options_check_conflicts(const struct options *options, struct strbuf *why)
{
	bool is_redirect_off = options->redirect == CORE_REDIRECT_FOLLOW ||
			       options->redirect == CORE_REDIRECT_NOFOLLOW;

	if (options->metacopy == true && is_redirect_off)
		strbuf_append_string(why, "metacopy=on needs redirect_dir=on");
	else if (options->cross_mounts && options->watch)
		strbuf_append_string(why, "watch and cross_mounts exclude each other");
	else if (options->allow_other && options->allow_root)
		strbuf_append_string(why, "allow_other and allow_root exclude each other");
}

int options_check(struct options *options, struct strbuf *why)
{
	if (!options->lowers.count)
		strbuf_append_string(why, "no lower layer: lowerdir= is missing");
	else if (options->upperdir && !options->workdir)
		strbuf_append_string(why, "upperdir= needs workdir= too: a directory on the same "
					  "mount");
	else if (options->workdir && !options->upperdir)
		strbuf_append_string(why,
				     "workdir= is for a mount with upperdir=, which is missing");
	else
		options_check_conflicts(options, why);
	return why->length ? -EINVAL : 0;
}

/*
 * What is not said.  A kernel mount of the layer follows redirects by default, but with user.*
 * attributes refuses them; metacopy files and the index it takes only when asked to.
 */
static enum core_redirect options_redirect(const struct options *options)
{
	if (options->redirect != OPTIONS_UNSET)
		return (enum core_redirect)options->redirect;
	return CORE_REDIRECT_ON;
}

static bool options_metacopy_write(const struct options *options)
{
	if (options->metacopy != OPTIONS_UNSET)
		return options->metacopy;
	return options->compat == OPTIONS_COMPAT_NONE &&
	       options_redirect(options) == CORE_REDIRECT_ON;
}

static enum core_index options_index(const struct options *options)
{
	if (options->index != OPTIONS_UNSET)
		return (enum core_index)options->index;
	return options->compat == OPTIONS_COMPAT_NONE ? CORE_INDEX_AUTO : CORE_INDEX_OFF;
}

struct core_config options_core_config(const struct options *options)
{
	return (struct core_config){
		.lowers = options->lowers,
		.upperdir = options->upperdir,
		.workdir = options->workdir,
		.redirect = options_redirect(options),
		.fsync = (enum core_fsync)options->fsync,
		.xattrs = options->userxattr ? CORE_XATTRS_USER : CORE_XATTRS_AUTO,
		.metacopy = options->metacopy != false,
		.verity = (enum core_verity)options->verity,
		.metacopy_write = options_metacopy_write(options),
		.read_only = options->mount_flags & MS_RDONLY,
		.index = options_index(options),
		/* Redirects in user.* attributes are what the kernel refuses even to follow. */
		.no_user_redirect = options->compat == OPTIONS_COMPAT_KERNEL &&
				    options->redirect == OPTIONS_UNSET,
		.static_nlink = options->static_nlink,
		.nfs_export = options->nfs_export,
		.noatime = options->mount_flags & MS_NOATIME,
		.layers_change = options->layers_change,
		.watch = options->watch,
		.cross_mounts = options->cross_mounts,
	};
}

static void options_print_values(FILE *file, const struct option_spec *spec)
{
	const char *separator = "=";

	if (spec->value_name) {
		fprintf(file, "=%s", spec->value_name);
		return;
	}
	if (spec->argument == OPTION_NO_VALUE)
		return;
	for (const struct option_choice *c = spec->choices; c && c->name; c++) {
		if (c->refused)
			continue;
		fprintf(file, "%s%s", separator, c->name);
		separator = "|";
	}
}

void options_print_help(FILE *file)
{
	for (const struct option_spec *spec = option_specs; spec->name; spec++) {
		if (!spec->is_listed)
			continue;
		fprintf(file, "  %s", spec->name);
		options_print_values(file, spec);
		fprintf(file, "\n        %s\n", spec->text);
	}
}

void options_print_list(FILE *file)
{
	for (const struct option_spec *spec = option_specs; spec->name; spec++) {
		if (!spec->is_listed)
			continue;
		fprintf(file, "%s\n", spec->name);
		if (spec->argument == OPTION_NO_VALUE)
			continue;
		for (const struct option_choice *c = spec->choices; c && c->name; c++)
			if (!c->refused)
				fprintf(file, "%s=%s\n", spec->name, c->name);
	}
}

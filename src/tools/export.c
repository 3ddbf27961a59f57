/* SPDX-License-Identifier: MIT */
#include "tools/export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "format/jsontext.h"
#include "sys/file.h"
#include "tools/args.h"
#include "tools/export_output.h"
#include "tools/export_walk.h"
#include "tools/locate.h"
#include "tools/progress.h"
#include "tools/stop.h"
#include "tools/tarlib.h"

#define EXPORT_EPOCH "SOURCE_DATE_EPOCH"

enum {
	EXPORT_KEY_COMPRESS = ARGS_KEY_FIRST,
	EXPORT_KEY_JSON,
};

struct export_args {
	struct args_target target;
	const char *name;
	const char *file; /* NULL: standard output */
	int compression; /* -1: by the file's name */
	bool as_json;
};

static const char *const export_compressions[] = {
	[TARWRITE_PLAIN] = "none",
	[TARWRITE_GZIP] = "gzip",
	[TARWRITE_ZSTD] = "zstd",
};

static const struct argp_option export_options[] = {
	{ "output", 'o', "FILE", 0,
	  "write to FILE, which is there when it is whole; '-' and none: standard output", 0 },
	{ "compress", EXPORT_KEY_COMPRESS, "zstd|gzip|none", 0,
	  "else as FILE's name says: .tar.zst, .tar.gz, or not", 0 },
	{ "json", EXPORT_KEY_JSON, NULL, 0,
	  "a summary in JSON, see docs/export.schema.json; takes --output", 0 },
	{ 0 },
};

static void export_parse_compression(const char *word, struct argp_state *state,
				     struct export_args *args)
{
	for (size_t i = 0; i < ARRAY_SIZE(export_compressions); i++)
		if (!strcmp(word, export_compressions[i]))
			args->compression = (int)i;
	if (args->compression < 0)
		argp_error(state, "--compress=%s: known are zstd, gzip and none", word);
}

static void export_check_args(const struct export_args *args, struct argp_state *state)
{
	if (args->as_json && !args->file)
		argp_error(state, "--json takes --output FILE: standard output has the archive");
}

static error_t export_parse(int key, char *arg, struct argp_state *state)
{
	struct export_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &args->target;
		return 0;
	case 'o': /* instead of the mount options of args_target */
		args->file = strcmp(arg, "-") ? arg : NULL;
		return 0;
	case EXPORT_KEY_COMPRESS:
		args->compression = -1;
		export_parse_compression(arg, state, args);
		return 0;
	case EXPORT_KEY_JSON:
		args->as_json = true;
		return 0;
	case ARGP_KEY_END:
		export_check_args(args, state);
		return args_take_name(key, arg, state, "MOUNT or LAYER", &args->target,
				      &args->name);
	case ARGP_KEY_ARG:
		return args_take_name(key, arg, state, "MOUNT or LAYER", &args->target,
				      &args->name);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child export_children[] = { { &args_target, 0, NULL, 0 }, { 0 } };

static const struct argp export_argp = {
	.options = export_options,
	.parser = export_parse,
	.args_doc = "MOUNT|LAYER",
	.doc = "Writes what a layer changes as the tar archive of an OCI image layer.\v"
	       "Exit status: 0 if it was written, 1 if not, 2 if the command line was not "
	       "understood.",
	.children = export_children,
};

/* ---- what is asked for ---- */

static enum tarwrite_compression export_compression(const struct export_args *args)
{
	static const struct {
		const char *suffix;
		enum tarwrite_compression compression;
	} suffixes[] = {
		{ ".gz", TARWRITE_GZIP },
		{ ".tgz", TARWRITE_GZIP },
		{ ".zst", TARWRITE_ZSTD },
		{ ".tzst", TARWRITE_ZSTD },
	};
	size_t length = args->file ? strlen(args->file) : 0;

	if (args->compression >= 0)
		return (enum tarwrite_compression)args->compression;
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		size_t size = strlen(suffixes[i].suffix);

		if (length > size && !strcmp(args->file + length - size, suffixes[i].suffix))
			return suffixes[i].compression;
	}
	return TARWRITE_PLAIN;
}

static int export_take_epoch(struct export *export, struct strbuf *why)
{
	const char *text = getenv(EXPORT_EPOCH);
	char *end;

	if (!text || !*text)
		return 0;
	errno = 0;
	export->latest = strtoll(text, &end, 10);
	export->has_latest = true;
	if (errno == 0 && *end == '\0' && export->latest >= 0)
		return 0;
	strbuf_append_format(why, EXPORT_EPOCH "=%s: not a number of seconds since 1970", text);
	return -EINVAL;
}

static int export_locate(const struct export_args *args, struct target *target, struct strbuf *why)
{
	int r = locate_target(args->name, &args->target, target, why);

	if (r < 0 || target->upper)
		return r;
	strbuf_append_format(why, "%s is mounted read-only, without an upper: there is no layer",
			     target->name);
	return -EROFS;
}

/* What was written through a live mount may still be in the kernel's cache alone. */
static int export_settle_mount(const struct target *target, struct strbuf *why)
{
	_cleanup_close_ int fd = -1;

	if (!target->mount_point)
		return 0;
	fd = sys_open_path(target->mount_point, O_RDONLY | O_DIRECTORY);
	int r = fd < 0 ? fd : sys_syncfs(fd);

	if (r < 0)
		strbuf_append_format(why, "%s: what was written cannot be flushed: %s",
				     target->mount_point, strerror(-r));
	return r;
}

/* ---- the summary ---- */

static int export_print_json(const struct export_args *args, const struct target *target,
			     const struct export *export)
{
	const struct export_counts *counts = &export->counts;
	json_t *root = json_pack("{s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
				 "schema", "veneer-export", "version", 1, "compression",
				 export_compressions[export_compression(args)], "entries",
				 (json_int_t)counts->entries, "whiteouts",
				 (json_int_t)counts->whiteouts, "opaque",
				 (json_int_t)counts->opaque, "hardlinks",
				 (json_int_t)counts->hardlinks, "bytes", (json_int_t)counts->bytes,
				 "sockets", (json_int_t)counts->sockets, "plain_size",
				 (json_int_t)tarwrite_plain_size(export->tar), "size",
				 (json_int_t)tarwrite_size(export->tar));
	int r = root ? jsontext_set(root, "layer", target->name) : -ENOMEM;

	if (r == 0)
		r = jsontext_set(root, "file", args->file);
	if (r == 0 && json_dumpf(root, stdout, JSON_INDENT(2)) == 0)
		putchar('\n');
	json_decref(root);
	return r == 0 && fflush(stdout) != 0 ? -errno : r;
}

static void export_print_notes(const struct export_counts *counts)
{
	if (counts->sockets)
		log_warning("%" PRIu64 " sockets were left out: an archive cannot hold them",
			    counts->sockets);
}

/* ---- running ---- */

static void export_progress(void *context, uint64_t bytes)
{
	progress_add(context, bytes);
}

static int export_write(struct export *export, struct export_output *output, struct strbuf *why)
{
	progress_begin(export->context, "exporting", 0);
	int r = export_walk(export, why);

	progress_end(export->context);
	if (r == 0)
		r = tarwrite_finish(export->tar);
	if (r < 0 && why->length == 0)
		strbuf_append_format(why, "the archive cannot be written: %s",
				     tarwrite_reason(export->tar));
	if (r < 0)
		return r;
	r = export_output_finish(output);
	if (r < 0)
		strbuf_append_format(why, "the archive cannot get its name: %s", strerror(-r));
	return r;
}

static int export_layer(const struct export_args *args, struct strbuf *why)
{
	_cleanup_export_output_ struct export_output output = EXPORT_OUTPUT_INIT;
	_cleanup_target_ struct target target = TARGET_INIT;
	struct progress progress;
	struct export export = {
		.target = &target,
		.is_interrupted = stop_is_wanted,
		.progress = export_progress,
		.context = &progress,
	};
	int r = export_take_epoch(&export, why);

	if (r == 0)
		r = export_locate(args, &target, why);
	if (r == 0)
		r = export_settle_mount(&target, why);
	if (r == 0)
		r = export_output_open(args->file, &output, why);
	if (r < 0)
		return r;
	export.tar = tarwrite_new(output.fd, export_compression(args));
	if (!export.tar)
		return -ENOMEM;
	r = export_write(&export, &output, why);
	if (r == 0 && args->as_json)
		r = export_print_json(args, &target, &export);
	if (r == 0)
		export_print_notes(&export.counts);
	tarwrite_free(export.tar);
	return r;
}

int export_run(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct export_args args = { .compression = -1 };
	int r = args_parse(&export_argp, argc, argv, false, &args);

	stop_catch();
	if (r == 0)
		r = tarlib_check(&why);
	if (r == 0)
		r = export_layer(&args, &why);
	if (r < 0)
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

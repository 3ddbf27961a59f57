/* SPDX-License-Identifier: MIT */
#include "offline/layerfile.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "format/jsontext.h"
#include "sys/file.h"

#define LAYERFILE_SCHEMA "veneer-layer"
#define LAYERFILE_VERSION 1
#define LAYERFILE_SIZE_MAX (1 << 20)
/* Of a command: JSON may have many times as much, which is still less than what is read. */
#define LAYERFILE_COMMAND_MAX (32 << 10)
/* What a word takes in JSON beside its bytes. */
#define LAYERFILE_WORD_COST 32
#define LAYERFILE_CUT "..."

/* Appends the sentence and returns the errno it explains. */
#define layerfile_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

void layerfile_deinit(struct layerfile *file)
{
	lowerdir_list_deinit(&file->lowers);
	for (char **word = file->command; word && *word; word++)
		free(*word);
	free(file->command);
	*file = LAYERFILE_INIT;
}

/* ---- reading ---- */

static int layerfile_take_lowers(struct layerfile *file, json_t *lowers)
{
	size_t i;
	json_t *lower;

	json_array_foreach(lowers, i, lower)
	{
		_cleanup_free_ char *path = NULL;
		int r = jsontext_get(lower, "path", &path);

		if (r == 0 && *path != '/')
			r = -EINVAL;
		if (r == 0)
			r = lowerdir_list_add(&file->lowers, path,
					      json_is_true(json_object_get(lower, "data_only")));
		if (r < 0)
			return r;
	}
	return i > 0 ? 0 : -EINVAL;
}

static int layerfile_take_command(struct layerfile *file, json_t *command)
{
	size_t count = json_array_size(command);

	file->command = calloc(count + 1, sizeof(*file->command));
	if (!file->command)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		int r = jsontext_get(json_array_get(command, i), "word", &file->command[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int layerfile_take(struct layerfile *file, json_t *json)
{
	json_t *created = json_object_get(json, "created");
	int r = layerfile_take_lowers(file, json_object_get(json, "lowers"));

	if (r == 0)
		r = layerfile_take_command(file, json_object_get(json, "command"));
	file->cross_mounts = json_is_true(json_object_get(json, "cross_mounts"));
	file->userxattr = json_is_true(json_object_get(json, "userxattr"));
	file->is_temporary = json_is_true(json_object_get(json, "temporary"));
	file->is_discarded = json_is_true(json_object_get(json, "discarded"));
	file->created.tv_sec = json_integer_value(json_object_get(created, "s"));
	file->created.tv_nsec = json_integer_value(json_object_get(created, "ns"));
	return r;
}

/* What keeps @json from being a description of ours; appended to @why. */
static int layerfile_check(json_t *json, const char *path, struct strbuf *why)
{
	const char *schema = json_string_value(json_object_get(json, "schema"));
	json_int_t version = json_integer_value(json_object_get(json, "version"));

	if (!schema || strcmp(schema, LAYERFILE_SCHEMA) != 0)
		return layerfile_fail(why, -EINVAL, "%s does not describe a layer of veneer", path);
	if (version != LAYERFILE_VERSION)
		return layerfile_fail(why, -EINVAL,
				      "%s is of another version of veneer (%lld, known is %d): use "
				      "the command it was made with",
				      path, (long long)version, LAYERFILE_VERSION);
	return 0;
}

static int layerfile_parse(struct layerfile *file, const char *data, size_t size, const char *path,
			   struct strbuf *why)
{
	json_error_t error;
	json_t *json = json_loadb(data, size, JSON_REJECT_DUPLICATES, &error);

	if (!json)
		return layerfile_fail(why, -EINVAL, "%s is damaged: line %d: %s", path, error.line,
				      error.text);
	int r = layerfile_check(json, path, why);

	if (r == 0) {
		r = layerfile_take(file, json);
		if (r < 0)
			strbuf_append_format(why, "%s is damaged: %s", path, strerror(-r));
	}
	json_decref(json);
	return r;
}

int layerfile_read(const char *directory, struct layerfile *file, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;

	*file = LAYERFILE_INIT;
	strbuf_append_format(&path, "%s/" LAYERFILE_NAME, directory);
	if (path.failed)
		return -ENOMEM;
	_cleanup_close_ int fd = sys_open_path(path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd == -ENOENT || fd == -ENOTDIR)
		return -ENOENT;
	_cleanup_free_ char *data = malloc(LAYERFILE_SIZE_MAX + 1);
	ssize_t size = fd < 0 ? fd : -ENOMEM;

	if (fd >= 0 && data)
		size = sys_pread(fd, data, LAYERFILE_SIZE_MAX + 1, 0);
	if (size < 0)
		return layerfile_fail(why, (int)size, "%s: %s", path.data, strerror((int)-size));
	if (size > LAYERFILE_SIZE_MAX)
		return layerfile_fail(why, -EFBIG,
				      "%s is too large to describe a layer (more than %d bytes)",
				      path.data, LAYERFILE_SIZE_MAX);
	return layerfile_parse(file, data, (size_t)size, path.data, why);
}

/* ---- writing ---- */

/* An array of one object for each string, @key being its member. */
static int layerfile_add(json_t *array, const char *key, const char *bytes, bool data_only)
{
	json_t *item = json_object();

	if (json_array_append_new(array, item) < 0 || jsontext_set(item, key, bytes) < 0)
		return -ENOMEM;
	return data_only && json_object_set_new(item, "data_only", json_true()) < 0 ? -ENOMEM : 0;
}

/* As much of @word as may be, up to the beginning of a character. */
static char *layerfile_shorten(const char *word, size_t room)
{
	size_t length = strnlen(word, room);

	if (word[length] != '\0')
		while (length > 0 && ((unsigned char)word[length] & 0xC0) == 0x80)
			length--;
	return strndup(word, length);
}

static int layerfile_add_command(json_t *array, char **words)
{
	size_t room = LAYERFILE_COMMAND_MAX;
	int r = 0;

	for (char **word = words; word && *word && r == 0; word++) {
		_cleanup_free_ char *begin = layerfile_shorten(*word, room);
		size_t cost = strlen(*word) + LAYERFILE_WORD_COST;

		r = begin ? layerfile_add(array, "word", begin, false) : -ENOMEM;
		if (r == 0 && cost > room)
			return layerfile_add(array, "word", LAYERFILE_CUT, false);
		room -= cost;
	}
	return r;
}

static json_t *layerfile_make(const struct layerfile *file)
{
	json_t *lowers = json_array(), *command = json_array();
	int r = 0;

	for (size_t i = 0; i < file->lowers.count && r == 0; i++)
		r = layerfile_add(lowers, "path", file->lowers.items[i].path,
				  file->lowers.items[i].data_only);
	if (r == 0)
		r = layerfile_add_command(command, file->command);
	/* Takes both, also when it fails. */
	json_t *json = json_pack("{s:s, s:i, s:{s:I, s:I}, s:b, s:b, s:b, s:b, s:o, s:o}", "schema",
				 LAYERFILE_SCHEMA, "version", LAYERFILE_VERSION, "created", "s",
				 (json_int_t)file->created.tv_sec, "ns",
				 (json_int_t)file->created.tv_nsec, "cross_mounts",
				 file->cross_mounts, "userxattr", file->userxattr, "temporary",
				 file->is_temporary, "discarded", file->is_discarded, "lowers",
				 lowers, "command", command);

	if (r < 0 && json) {
		json_decref(json);
		json = NULL;
	}
	return json;
}

/* To a file beside it first. */
static int layerfile_replace(int dirfd, const char *text)
{
	size_t size = strlen(text);
	int r = sys_unlink(dirfd, LAYERFILE_TEMP);

	if (r < 0 && r != -ENOENT)
		return r;
	_cleanup_close_ int fd = sys_open(dirfd, LAYERFILE_TEMP, O_WRONLY | O_CREAT | O_EXCL, 0644);
	ssize_t written = fd < 0 ? fd : sys_pwrite(fd, text, size, 0);

	if (written < 0)
		return (int)written;
	r = (size_t)written < size ? -ENOSPC : sys_fsync(fd, false);
	return r < 0 ? r : sys_rename(dirfd, LAYERFILE_TEMP, dirfd, LAYERFILE_NAME, 0);
}

int layerfile_write(const char *directory, const struct layerfile *file, struct strbuf *why)
{
	json_t *json = layerfile_make(file);
	_cleanup_free_ char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	_cleanup_close_ int dirfd = sys_open_path(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = !text ? -ENOMEM : dirfd < 0 ? dirfd : layerfile_replace(dirfd, text);

	json_decref(json);
	return r < 0 ? layerfile_fail(why, r, "%s/" LAYERFILE_NAME ": %s", directory,
				      strerror(-r)) :
		       0;
}

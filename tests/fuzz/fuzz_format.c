/* SPDX-License-Identifier: MIT */
/*
 * The codecs of the on-disk format.  The first byte chooses the codec, the rest
 * is what a hostile layer (or command line) holds.  Besides not reading out of
 * bounds, what can be decoded must survive being encoded and decoded again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/acl.h"
#include "format/lowerdir.h"
#include "format/metacopy.h"
#include "format/nlink.h"
#include "format/origin.h"
#include "format/protattr.h"
#include "format/redirect.h"
#include "format/whiteout.h"
#include "format/xattr_name.h"
#include "fuzz.h"

static void fuzz_redirect(struct fuzz_input *input)
{
	if (!redirect_is_valid((const char *)input->data, input->size))
		return;
	char *redirect = fuzz_take_string(input);
	const char *cursor = redirect, *component;
	size_t length, total = 0;

	fuzz_check(input->size == 0);
	if (redirect_is_absolute(redirect)) {
		while ((length = redirect_next(&cursor, &component)) > 0) {
			fuzz_check(!memchr(component, '/', length));
			total += length + 1;
		}
		fuzz_check(total == strlen(redirect));
	} else {
		fuzz_check(!strchr(redirect, '/'));
	}
	free(redirect);
}

static void fuzz_origin(struct fuzz_input *input)
{
	struct origin origin, again;
	uint8_t bytes[ORIGIN_SIZE_MAX];
	char name[ORIGIN_INDEX_NAME_MAX + 1];

	if (origin_decode(input->data, input->size, &origin) != ORIGIN_VALID)
		return;
	size_t size = origin_encode(&origin, bytes);

	fuzz_check(size > 0 && size <= sizeof(bytes));
	fuzz_check(origin_decode(bytes, size, &again) == ORIGIN_VALID);
	fuzz_check(origin_is_equal(&origin, &again));
	size_t length = origin_index_name(&origin, name);

	fuzz_check(length == 0 || length == strlen(name)); /* 0: longer than a name can be */
}

static void fuzz_index_name(struct fuzz_input *input)
{
	struct origin origin, again;
	char name[ORIGIN_INDEX_NAME_MAX + 1];
	char *string = fuzz_take_string(input);

	if (origin_from_index_name(string, &origin) && origin_index_name(&origin, name) > 0) {
		fuzz_check(origin_from_index_name(name, &again));
		fuzz_check(origin_is_equal(&origin, &again));
	}
	free(string);
}

static void fuzz_metacopy(struct fuzz_input *input)
{
	struct metacopy metacopy, again;
	uint8_t bytes[METACOPY_SIZE_MAX];

	if (metacopy_decode(input->data, input->size, &metacopy) < 0)
		return;
	fuzz_check(metacopy.digest_size <= METACOPY_DIGEST_MAX);
	size_t size = metacopy_encode(&metacopy, bytes);

	fuzz_check(size <= sizeof(bytes));
	fuzz_check(metacopy_decode(bytes, size, &again) == 0);
	fuzz_check(again.digest_algorithm == metacopy.digest_algorithm);
	fuzz_check(again.digest_size == metacopy.digest_size);
	fuzz_check(memcmp(again.digest, metacopy.digest, metacopy.digest_size) == 0);
}

static void fuzz_nlink(struct fuzz_input *input)
{
	struct nlink nlink, again;
	char text[NLINK_SIZE_MAX];

	if (nlink_decode((const char *)input->data, input->size, &nlink) < 0)
		return;
	size_t size = nlink_encode(&nlink, text);

	fuzz_check(size <= sizeof(text));
	fuzz_check(nlink_decode(text, size, &again) == 0);
	fuzz_check(again.of_upper == nlink.of_upper && again.delta == nlink.delta);
}

static void fuzz_protattr(struct fuzz_input *input)
{
	unsigned int flags = protattr_decode((const char *)input->data, input->size);
	char text[PROTATTR_SIZE_MAX];

	fuzz_check((flags & ~(PROTATTR_APPEND | PROTATTR_IMMUTABLE)) == 0);
	size_t size = protattr_encode(flags, text);

	fuzz_check(size <= sizeof(text));
	fuzz_check(protattr_decode(text, size) == flags);
}

/* The option's spelling of a list, every special character escaped. */
static char *spell_lowerdir(const struct lowerdir_list *list)
{
	size_t size = 1;

	for (size_t i = 0; i < list->count; i++)
		size += 2 + 2 * strlen(list->items[i].path);
	char *value = fuzz_alloc(size), *at = value;

	for (size_t i = 0; i < list->count; i++) {
		if (i > 0)
			*at++ = ':';
		if (list->items[i].data_only)
			*at++ = ':';
		for (const char *c = list->items[i].path; *c; c++) {
			if (strchr("\\:,", *c))
				*at++ = '\\';
			*at++ = *c;
		}
	}
	*at = '\0';
	return value;
}

static void fuzz_lowerdir(struct fuzz_input *input)
{
	char *value = fuzz_take_string(input);
	struct lowerdir_list list, again;
	const char *why = NULL;

	if (lowerdir_parse(value, &list, &why) < 0) {
		fuzz_check(why);
	} else {
		char *spelled = spell_lowerdir(&list);

		fuzz_check(lowerdir_parse(spelled, &again, &why) == 0);
		fuzz_check(again.count == list.count);
		for (size_t i = 0; i < list.count; i++) {
			fuzz_check(strcmp(again.items[i].path, list.items[i].path) == 0);
			fuzz_check(again.items[i].data_only == list.items[i].data_only);
		}
		lowerdir_list_deinit(&again);
		lowerdir_list_deinit(&list);
		free(spelled);
	}
	free(value);
}

static void fuzz_acl(struct fuzz_input *input)
{
	mode_t mode = fuzz_take_u32(input) & 07777, before = mode;
	void *access = fuzz_alloc(input->size);
	ssize_t size = acl_inherit(input->data, input->size, &mode, access);

	fuzz_check(size < 0 || (size_t)size <= input->size);
	/* An ACL takes rights away from what was asked for, and never gives any. */
	fuzz_check(size < 0 || (mode & ~before) == 0);
	free(access);
}

static void fuzz_xattr_list(struct fuzz_input *input)
{
	enum xattr_namespace ns = fuzz_take_u8(input) & 1 ? XATTR_USER : XATTR_TRUSTED;
	size_t size = input->size;
	char *list = fuzz_alloc(size + 1);

	memcpy(list, input->data, size);
	list[size] = '\0'; /* the kernel ends every name */
	size_t left = xattr_list_filter(ns, list, size + 1);

	fuzz_check(left <= size + 1);
	fuzz_check(left == 0 || list[left - 1] == '\0');
	free(list);
}

static void fuzz_xattr_name(struct fuzz_input *input)
{
	enum xattr_namespace ns = fuzz_take_u8(input) & 1 ? XATTR_USER : XATTR_TRUSTED;
	char *key = fuzz_take_string(input), buf[XATTR_KEY_MAX + 1], list[XATTR_KEY_MAX + 1];
	const char *stored = xattr_name_escape(ns, key, buf);

	if (stored && strlen(stored) <= XATTR_KEY_MAX && *key) {
		/* What a user may set is listed back under the name that was set. */
		fuzz_check(!xattr_name_is_private(ns, stored));
		strcpy(list, stored);
		fuzz_check(xattr_list_filter(ns, list, strlen(list) + 1) == strlen(key) + 1);
		fuzz_check(strcmp(list, key) == 0);
	}
	free(key);
}

static void fuzz_names(struct fuzz_input *input)
{
	opaque_parse((const char *)input->data, input->size);
	char *name = fuzz_take_string(input);
	enum whiteout_name kind = whiteout_name_kind(name);

	if (kind == WHITEOUT_NAME_HIDES)
		fuzz_check(strlen(name) > WHITEOUT_PREFIX_LENGTH);
	free(name);
}

static void (*const fuzz_codecs[])(struct fuzz_input *input) = {
	fuzz_redirect, fuzz_origin, fuzz_index_name, fuzz_metacopy,   fuzz_nlink, fuzz_protattr,
	fuzz_lowerdir, fuzz_acl,    fuzz_xattr_list, fuzz_xattr_name, fuzz_names,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	uint8_t *exact = fuzz_copy(data + 1, size - 1);
	struct fuzz_input input = { .data = exact, .size = size - 1 };

	fuzz_codecs[data[0] % ARRAY_SIZE(fuzz_codecs)](&input);
	free(exact);
	return 0;
}

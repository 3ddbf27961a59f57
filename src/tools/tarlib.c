/* SPDX-License-Identifier: MIT */
#include "tools/tarlib.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"

/* Its name stands for the interface that archive.h of libarchive 3 declares. */
#define TARLIB_SONAME "libarchive.so.13"

/* Where the pointer to each function belongs. */
static const struct {
	const char *name;
	size_t offset;
} tarlib_functions[] = {
#define TARLIB_ENTRY(name) { #name, offsetof(struct tarlib, name) },
	TARLIB_FUNCTIONS(TARLIB_ENTRY)
#undef TARLIB_ENTRY
};

/* NULL, or why not: of dlerror(3). */
static const char *tarlib_load(struct tarlib *lib)
{
	void *handle = dlopen(TARLIB_SONAME, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return dlerror();
	for (size_t i = 0; i < ARRAY_SIZE(tarlib_functions); i++) {
		void *function = dlsym(handle, tarlib_functions[i].name);

		if (!function)
			return dlerror();
		*(void **)((char *)lib + tarlib_functions[i].offset) = function;
	}
	return NULL;
}

/* The one there is, filled at the first call. */
static const struct tarlib *tarlib_find(const char **reason)
{
	static struct tarlib lib;
	static bool is_loaded;

	*reason = is_loaded ? NULL : tarlib_load(&lib);
	is_loaded = *reason == NULL;
	return is_loaded ? &lib : NULL;
}

const struct tarlib *tarlib_get(void)
{
	const char *reason;

	return tarlib_find(&reason);
}

int tarlib_check(struct strbuf *why)
{
	const char *reason;

	if (tarlib_find(&reason))
		return 0;
	strbuf_append_format(why, "archives need libarchive (package libarchive13): %s", reason);
	return -ENOENT;
}

/* SPDX-License-Identifier: MIT */
/*
 * Archives of layers.  An input is a byte of how, then the archive in blocks of
 * 512 bytes; headers get the checksum that they should have, or few would be
 * looked at.  It is read into a new layer, or onto one that has a few objects.
 *
 * Beyond surviving: what is refused leaves nothing and changes nothing, there is
 * a reason, and nothing outside the layer is touched.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fuzz.h"
#include "sandbox.h"
#include "tools/import.h"

#define FUZZ_LAYER SANDBOX_ROOT "/layer"
#define FUZZ_OUTSIDE SANDBOX_ROOT "/outside"
#define FUZZ_SECRET "nobody's"
#define FUZZ_BLOCK 512

enum fuzz_how {
	FUZZ_HOW_ONTO = 1 << 0,
	FUZZ_HOW_ATTRIBUTES = 1 << 1, /* whiteouts of that form */
	FUZZ_HOW_USER = 1 << 2, /* user.overlay.* */
	FUZZ_HOW_RAW = 1 << 3, /* checksums as they are; also compressed archives */
};

/* ---- the archive ---- */

static void fuzz_mend_header(uint8_t *block)
{
	unsigned int sum = 0;
	char text[8];

	if (memcmp(block + 257, "ustar", 5) != 0)
		return;
	memset(block + 148, ' ', sizeof(text));
	for (unsigned int i = 0; i < FUZZ_BLOCK; i++)
		sum += block[i];
	snprintf(text, sizeof(text), "%06o", sum);
	memcpy(block + 148, text, sizeof(text));
}

static int fuzz_archive(const struct fuzz_input *input, uint8_t how)
{
	uint8_t *data = fuzz_copy(input->data, input->size);
	int fd = memfd_create("archive", MFD_CLOEXEC);

	for (size_t at = 0; !(how & FUZZ_HOW_RAW) && at + FUZZ_BLOCK <= input->size;
	     at += FUZZ_BLOCK)
		fuzz_mend_header(data + at);
	fuzz_check(fd >= 0 && write(fd, data, input->size) == (ssize_t)input->size);
	fuzz_check(lseek(fd, 0, SEEK_SET) == 0);
	free(data);
	return fd;
}

/* ---- what must not change ---- */

static void fuzz_write(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	fuzz_check(fd >= 0 && write(fd, FUZZ_SECRET, sizeof(FUZZ_SECRET)) > 0);
	close(fd);
}

static void fuzz_check_secret(const char *path)
{
	char text[sizeof(FUZZ_SECRET) + 1];
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	fuzz_check(fd >= 0 && fstat(fd, &st) == 0 && st.st_mode == (S_IFREG | 0600));
	fuzz_check(st.st_nlink == 1 && read(fd, text, sizeof(text)) == sizeof(FUZZ_SECRET));
	fuzz_check(memcmp(text, FUZZ_SECRET, sizeof(FUZZ_SECRET)) == 0);
	close(fd);
}

static unsigned int fuzz_count(const char *path)
{
	unsigned int count = 0;
	DIR *dir = opendir(path);

	fuzz_check(dir != NULL);
	/* Nobody else has the directory, and readdir_r() is not to be used any more. */
	/* cppcheck-suppress readdirCalled */
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static void fuzz_prepare(uint8_t how)
{
	sandbox_renew();
	fuzz_check(mkdir(FUZZ_OUTSIDE, 0700) == 0);
	fuzz_write(FUZZ_OUTSIDE "/f");
	if (!(how & FUZZ_HOW_ONTO))
		return;
	fuzz_check(mkdir(FUZZ_LAYER, 0755) == 0 && mkdir(FUZZ_LAYER "/d", 0755) == 0);
	fuzz_check(symlink(FUZZ_OUTSIDE, FUZZ_LAYER "/l") == 0);
	fuzz_check(mknod(FUZZ_LAYER "/w", S_IFCHR, 0) == 0);
	fuzz_write(FUZZ_LAYER "/d/f");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool is_ready;
	struct fuzz_input input = { .data = data, .size = size };
	uint8_t how = fuzz_take_u8(&input);
	struct import_counts counts = { 0 };
	struct strbuf why = STRBUF_INIT;

	if (!is_ready) {
		log_set_level(LOG_LEVEL_ERROR);
		fuzz_check(sandbox_enter() == 0);
		is_ready = true;
	}
	fuzz_prepare(how);
	const struct import_request request = {
		.fd = fuzz_archive(&input, how),
		.layer = FUZZ_LAYER,
		.onto = how & FUZZ_HOW_ONTO,
		.user_xattrs = how & FUZZ_HOW_USER,
		.attribute_whiteouts = how & FUZZ_HOW_ATTRIBUTES,
	};
	int r = import_layer(&request, &counts, &why);

	fuzz_check(r <= 0 && (r == 0 || why.length > 0));
	fuzz_check_secret(FUZZ_OUTSIDE "/f");
	fuzz_check(fuzz_count(FUZZ_OUTSIDE) == 1);
	/* The layer and what is outside; nothing to work in. */
	fuzz_check(fuzz_count(SANDBOX_ROOT) == (r == 0 || how & FUZZ_HOW_ONTO ? 2 : 1));
	strbuf_deinit(&why);
	close(request.fd);
	return 0;
}

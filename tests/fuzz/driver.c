/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target on given files, or on all files of given directories. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

static int driver_run_fd(int fd, const char *name)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	uint8_t *data = fuzz_alloc((size_t)st.st_size);
	ssize_t size = read(fd, data, (size_t)st.st_size);

	if (size == st.st_size) {
		/* Printed before, so that the last name is the one that ended the program. */
		printf("%s\n", name);
		fflush(stdout);
		uint8_t *exact = fuzz_copy(data, (size_t)size);

		LLVMFuzzerTestOneInput(exact, (size_t)size);
		free(exact);
	}
	free(data);
	return size == st.st_size ? 0 : -EIO;
}

static int driver_run_at(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : driver_run_fd(fd, name);

	if (fd >= 0)
		close(fd);
	if (r < 0)
		fprintf(stderr, "%s: %s\n", name, strerror(-r));
	return r;
}

/* Files are run in the order of their names; returns their number or -errno. */
static int driver_run_directory(const char *path)
{
	struct dirent **entries;
	int count = scandir(path, &entries, NULL, alphasort), files = 0, r = 0;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (count < 0 || fd < 0) {
		perror(path);
		return -1;
	}
	for (int i = 0; i < count; i++) {
		if (r == 0 && entries[i]->d_name[0] != '.') {
			r = driver_run_at(fd, entries[i]->d_name);
			files++;
		}
		free(entries[i]);
	}
	free(entries);
	close(fd);
	return r < 0 ? r : files;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;
		int r;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			r = driver_run_directory(argv[i]);
		else
			r = driver_run_at(AT_FDCWD, argv[i]) < 0 ? -1 : 1;
		if (r < 0)
			return 1;
		total += r;
	}
	printf("%d inputs\n", total);
	return total > 0 ? 0 : 1;
}

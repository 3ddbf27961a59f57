/* SPDX-License-Identifier: MIT */
#include "sys/memory.h"

#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* The segments of one loaded object that can never have been written to. */
static int memory_trim_object(struct dl_phdr_info *info, size_t size, void *context)
{
	const uintptr_t page = *(const uintptr_t *)context;

	for (unsigned int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + segment->p_vaddr;
		uintptr_t end = start + segment->p_memsz;

		if (segment->p_type != PT_LOAD || segment->p_flags & PF_W)
			continue;
		start &= ~(page - 1);
		/* Refused for what is locked, or is no mapping (the vdso): it stays. */
		(void)madvise((void *)start, end - start, MADV_DONTNEED);
	}
	return 0;
}

void sys_memory_trim_code(void)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	dl_iterate_phdr(memory_trim_object, &page);
}

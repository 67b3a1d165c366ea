// SPDX-License-Identifier: MIT
/*
 * Uses up the bounce buffers (swiotlb) by importing buffers into vgem, which
 * maps them for a device, and tries everything that wants one then: exhaust
 * CARD. ion_lite has a carveout as its heap 2, and legacy_abi=1. Whatever fails must change no
 * counter. Prints what happened as JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../../kernel-modules/include/uapi/dmabuf/cma_mem.h"
#include "../../../kernel-modules/include/uapi/dmabuf/ion.h"
#include "../../../kernel-modules/include/uapi/dmabuf/ion_legacy.h"
#include "drm.h"

#define SYSTEM_HEAP	1
#define CONTIG_HEAP	2
#define CARVEOUT_HEAP	4
#define DMA_HEAP	16

#define SWIOTLB		"/sys/kernel/debug/swiotlb/"
#define HIGHEST		SWIOTLB "io_tlb_used_hiwater"
#define SLOT		2048
#define MIB		(1024 * 1024)

/* Buffers of a page: more than all bounce buffers together have pages. */
#define MOST		900
/* Pieces of up to 64 KiB, more than there are bounce buffers for. */
#define SEVERAL		(1024 * 1024 + 64 * 1024 + 1)
#define PIECE		(64 * 1024)
/* Left free for some of them: not all that is free lies together. */
#define FREE_PAGES	128

static const char *const counters[] = {
	SWIOTLB "io_tlb_used",
	"/sys/class/misc/ion/buffers",
	"/sys/class/misc/ion/bytes",
	"/sys/class/misc/cma_mem/buffers",
	"/sys/class/misc/cma_mem/bytes",
	"/sys/class/misc/ion/heap2/largest_free",
	"/sys/class/dma_heap/system/bytes",
	"/sys/class/dma_heap/reserved/bytes",
};

#define COUNTERS	(sizeof(counters) / sizeof(counters[0]))

static int card, ion, cma_mem, heaps[2];
static int buffers[MOST];
static __u32 handles[MOST];
static unsigned int imported;

static __attribute__((noreturn, format(printf, 1, 2))) void wrong(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

static int need(const char *what, int result)
{
	if (result < 0)
		wrong("%s: %s", what, strerror(errno));
	return result;
}

static long number(const char *path)
{
	char text[32] = "";
	int fd = need(path, open(path, O_RDONLY | O_CLOEXEC));

	need(path, read(fd, text, sizeof(text) - 1));
	close(fd);
	return atol(text);
}

/* The kernel notes how many slots were in use at a time, from now on. */
static void forget_highest(void)
{
	int fd = need(HIGHEST, open(HIGHEST, O_WRONLY | O_CLOEXEC));

	need(HIGHEST, write(fd, "0", 1));
	close(fd);
}

static void count(long *values)
{
	for (unsigned int i = 0; i < COUNTERS; i++)
		values[i] = number(counters[i]);
}

static void same(const long *before, const char *after_what)
{
	long now;

	for (unsigned int i = 0; i < COUNTERS; i++) {
		now = number(counters[i]);
		for (int tries = 0; now != before[i] && tries < 100; tries++) {
			usleep(10000);
			now = number(counters[i]);
		}
		if (now != before[i])
			wrong("%s after %s: %ld, before %ld", counters[i], after_what, now,
			      before[i]);
	}
}

static int ion_alloc(size_t length, __u32 heaps, __u32 flags)
{
	struct ion_allocation_data data = {
		.len = length, .heap_id_mask = heaps, .flags = flags
	};

	return ioctl(ion, ION_IOC_ALLOC, &data) < 0 ? -1 : (int)data.fd;
}

static int heap_alloc(int heap, size_t length)
{
	struct dma_heap_allocation_data data = { .len = length, .fd_flags = O_RDWR | O_CLOEXEC };

	return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0 ? -1 : (int)data.fd;
}

static int cmem_alloc(size_t length)
{
	struct cmem_alloc data = { .len = length };

	return ioctl(cma_mem, CMEM_IOC_ALLOC, &data) < 0 ? -1 : data.fd;
}

static int cmem_region(size_t length, char is_cache)
{
	struct cmamem_info info = { .len = length, .is_cache = is_cache };

	return ioctl(cma_mem, CMEM_ALLOCATE, &info);
}

static int clean_caches(int fd, void *bytes, size_t length)
{
	struct ion_legacy_flush data = { .fd = fd, .vaddr = bytes, .length = length };

	return ioctl(ion, ION_LEGACY_IOC_CLEAN_CACHES, &data);
}

static int import(int fd, __u32 *handle)
{
	struct drm_prime_handle import = { .fd = fd };

	if (ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &import) < 0)
		return -1;
	*handle = import.handle;
	return 0;
}

static void give_up(__u32 handle)
{
	struct drm_gem_close done = { .handle = handle };

	need("DRM_IOCTL_GEM_CLOSE", ioctl(card, DRM_IOCTL_GEM_CLOSE, &done));
}

/* What must fail, with which errno, and change nothing. */
static void fails(const char *what, int result, int wanted)
{
	int error = errno;

	if (result >= 0)
		wrong("%s succeeded without bounce buffers", what);
	if (error != wanted)
		wrong("%s: %s, not %s", what, strerror(error), strerror(wanted));
}

static void import_until_it_fails(unsigned int count)
{
	while (imported < count && !import(buffers[imported], &handles[imported]))
		imported++;
	if (imported == count)
		wrong("%u pages were imported: the bounce buffers are not used up", count);
	fails("an import", -1, EIO);
}

int main(int argc, char **argv)
{
	long idle[COUNTERS], full[COUNTERS], partly[COUNTERS];
	size_t page = sysconf(_SC_PAGESIZE);
	unsigned int most, used_up_by;
	long slots, used, highest;
	int several, fd;
	__u32 handle;
	void *bytes;

	if (argc != 2) {
		fprintf(stderr, "usage: exhaust CARD\n");
		return 2;
	}
	slots = number(SWIOTLB "io_tlb_nslabs");
	most = slots * SLOT / page + 1;
	if (most > MOST || slots * SLOT >= SEVERAL)
		wrong("%ld slots of bounce buffers are too many: swiotlb=512,force", slots);
	card = need(argv[1], open(argv[1], O_RDWR | O_CLOEXEC));
	ion = need("/dev/ion", open("/dev/ion", O_RDWR | O_CLOEXEC));
	cma_mem = need("/dev/cma_mem", open("/dev/cma_mem", O_RDWR | O_CLOEXEC));
	heaps[0] = need("/dev/dma_heap/system", open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC));
	heaps[1] = need("/dev/dma_heap/reserved",
			open("/dev/dma_heap/reserved", O_RDWR | O_CLOEXEC));
	count(idle);

	several = need("ION_IOC_ALLOC", ion_alloc(SEVERAL, SYSTEM_HEAP, ION_FLAG_CACHED));
	bytes = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, several, 0);
	if (bytes == MAP_FAILED)
		need("mmap", -1);
	need("ION_IOC_CLEAN_CACHES", clean_caches(several, bytes, page));
	for (unsigned int i = 0; i < most; i++)
		buffers[i] = need("ION_IOC_ALLOC", ion_alloc(page, SYSTEM_HEAP, ION_FLAG_CACHED));

	/*
	 * All in use: nothing can be mapped, and so nothing be allocated whose
	 * caches are written back at once.
	 */
	import_until_it_fails(most);
	used_up_by = imported;
	count(full);
	used = full[0];
	fails("another import", import(buffers[imported], &handle), EIO);
	same(full, "an import that failed");
	fails("ION_IOC_ALLOC a page", ion_alloc(page, SYSTEM_HEAP, 0), ENOMEM);
	same(full, "ION_IOC_ALLOC a page");
	fails("ION_IOC_ALLOC 2 MiB", ion_alloc(2 * MIB, SYSTEM_HEAP, 0), ENOMEM);
	same(full, "ION_IOC_ALLOC 2 MiB");
	fails("ION_IOC_ALLOC a page of the DMA heap", ion_alloc(page, DMA_HEAP, 0), ENOMEM);
	same(full, "ION_IOC_ALLOC a page of the DMA heap");
	fails("ION_IOC_ALLOC 1 MiB of either heap", ion_alloc(MIB, DMA_HEAP | SYSTEM_HEAP, 0),
	      ENOMEM);
	same(full, "ION_IOC_ALLOC 1 MiB of either heap");
	fails("ION_IOC_ALLOC 64 KiB of the CONTIG heap", ion_alloc(PIECE, CONTIG_HEAP, 0), ENOMEM);
	same(full, "ION_IOC_ALLOC 64 KiB of the CONTIG heap");
	fails("ION_IOC_ALLOC 64 KiB of a carveout", ion_alloc(PIECE, CARVEOUT_HEAP, 0), ENOMEM);
	same(full, "ION_IOC_ALLOC 64 KiB of a carveout");
	/* Cached ones are, for these a device has yet to come. */
	close(need("DMA_HEAP_IOCTL_ALLOC 64 KiB of system", heap_alloc(heaps[0], PIECE)));
	same(full, "DMA_HEAP_IOCTL_ALLOC 64 KiB of system");
	close(need("DMA_HEAP_IOCTL_ALLOC 64 KiB of reserved", heap_alloc(heaps[1], PIECE)));
	same(full, "DMA_HEAP_IOCTL_ALLOC 64 KiB of reserved");
	fails("CMEM_IOC_ALLOC 1 MiB", cmem_alloc(MIB), ENOMEM);
	same(full, "CMEM_IOC_ALLOC 1 MiB");
	fails("CMEM_ALLOCATE a page", cmem_region(page, 0), ENOMEM);
	same(full, "CMEM_ALLOCATE a page");
	/* But for regions, whose physical address may be all a driver wants. */
	fails("CMEM_ALLOCATE a page, cached", cmem_region(page, 1), ENOMEM);
	same(full, "CMEM_ALLOCATE a page, cached");
	fails("ION_IOC_CLEAN_CACHES", clean_caches(several, bytes, page), ENOMEM);
	same(full, "ION_IOC_CLEAN_CACHES");

	/* A mapping that fails half way gives back what it got. */
	for (unsigned int i = 0; i < FREE_PAGES; i++)
		give_up(handles[--imported]);
	count(partly);
	if (partly[0] >= full[0])
		wrong("%ld slots in use, and no fewer after GEM_CLOSE", partly[0]);
	forget_highest();
	fails("an import of several pieces", import(several, &handle), EIO);
	highest = number(HIGHEST);
	if (highest < partly[0] + PIECE / SLOT)
		wrong("%ld slots in use, and %ld at most in an import: no piece was mapped",
		      partly[0], highest);
	same(partly, "an import of several pieces");
	/* As many as were given up go in again. */
	import_until_it_fails(most);
	if (imported != used_up_by)
		wrong("%u pages were imported, before the failure %u", imported, used_up_by);

	/* And all is as it was. */
	while (imported)
		give_up(handles[--imported]);
	for (unsigned int i = 0; i < most; i++)
		close(buffers[i]);
	munmap(bytes, page);
	close(several);
	same(idle, "all was given up");
	fd = need("ION_IOC_ALLOC", ion_alloc(128 * 1024, SYSTEM_HEAP, 0));
	need("an import", import(fd, &handle));
	give_up(handle);
	close(fd);
	close(need("ION_IOC_ALLOC of a carveout", ion_alloc(128 * 1024, CARVEOUT_HEAP, 0)));
	close(need("DMA_HEAP_IOCTL_ALLOC", heap_alloc(heaps[1], 128 * 1024)));
	fd = need("CMEM_IOC_ALLOC", cmem_alloc(128 * 1024));
	need("an import", import(fd, &handle));
	give_up(handle);
	close(fd);
	need("CMEM_ALLOCATE", cmem_region(page, 0));
	close(cma_mem);
	same(idle, "all was used again");

	printf("{\"slots\":%ld,\"used\":%ld,\"imported\":%u,\"partly\":%ld,\"highest\":%ld}\n",
	       slots, used, used_up_by, partly[0], highest);
	return 0;
}

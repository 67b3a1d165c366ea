/* SPDX-License-Identifier: MIT */
/*
 * Heaps of all kinds, for the benchmarks: ion:ID, cma_mem or dma_heap:NAME; ion:ID:warm
 * and cma_mem:warm where what is kept of freed buffers is not drained.
 */
#ifndef _BENCH_BUFFERS_H
#define _BENCH_BUFFERS_H

#include <dmabuf/cma_mem.h>
#include <dmabuf/ion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define DEBUGFS	"/sys/kernel/debug/"

struct heap {
	const char *name;
	int device;
	int drain;	/* or -1 */
	bool warm;
	unsigned int ion_id;
	int (*alloc)(const struct heap *heap, size_t size);
};

static void fail(const char *what)
{
	fprintf(stderr, "heap: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* All heaps alike: mapped cached, which is what those of the kernel are. */

static int ion_alloc(const struct heap *heap, size_t size)
{
	struct ion_allocation_data data = {
		.len = size,
		.heap_id_mask = 1U << heap->ion_id,
		.flags = ION_FLAG_CACHED,
	};

	return ioctl(heap->device, ION_IOC_ALLOC, &data) < 0 ? -1 : (int)data.fd;
}

static int cma_mem_alloc(const struct heap *heap, size_t size)
{
	struct cmem_alloc data = { .len = size, .flags = CMEM_FLAG_CACHED };

	return ioctl(heap->device, CMEM_IOC_ALLOC, &data) < 0 ? -1 : data.fd;
}

static int dma_heap_alloc(const struct heap *heap, size_t size)
{
	struct dma_heap_allocation_data data = { .len = size, .fd_flags = O_RDWR | O_CLOEXEC };

	return ioctl(heap->device, DMA_HEAP_IOCTL_ALLOC, &data) < 0 ? -1 : (int)data.fd;
}

static struct heap open_heap(const char *name)
{
	struct heap heap = { .drain = -1, .warm = strstr(name, ":warm") };
	char path[256];

	/* With pool_max=0 there is nothing to drain. */
	if (sscanf(name, "ion:%u", &heap.ion_id) == 1) {
		heap.alloc = ion_alloc;
		heap.name = "ion";
		heap.drain = open(DEBUGFS "ion/drain", O_WRONLY | O_CLOEXEC);
		strcpy(path, "/dev/ion");
	} else if (!strncmp(name, "cma_mem", 7)) {
		heap.alloc = cma_mem_alloc;
		heap.name = "cma_mem";
		heap.drain = open(DEBUGFS "cma_mem/drain", O_WRONLY | O_CLOEXEC);
		strcpy(path, "/dev/cma_mem");
	} else if (!strncmp(name, "dma_heap:", 9)) {
		heap.alloc = dma_heap_alloc;
		snprintf(path, sizeof(path), "/dev/dma_heap/%s", name + 9);
	} else {
		errno = EINVAL;
		fail(name);
	}
	heap.device = open(path, O_RDWR | O_CLOEXEC);
	if (heap.device < 0)
		fail(path);

	return heap;
}

/* What is kept of freed buffers goes back. */
static void drain(const struct heap *heap)
{
	if (heap->drain >= 0 && write(heap->drain, "1", 1) != 1)
		fail("drain");
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);

	return time.tv_sec * 1e9 + time.tv_nsec;
}

#endif /* _BENCH_BUFFERS_H */

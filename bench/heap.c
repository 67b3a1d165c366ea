// SPDX-License-Identifier: MIT
/*
 * The life of a buffer, step by step, on one of our heaps and on the kernel's
 * own, in turns: heap SIZE ROUNDS OURS PEER. A heap is ion:ID, cma_mem or
 * dma_heap:NAME. What ION keeps of freed buffers is drained after each life;
 * with ion:ID:warm it is zeroed instead, which is waited for. Prints a line a
 * step: its name, and the nanoseconds of each.
 */
#include <dmabuf/cma_mem.h>
#include <dmabuf/ion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <time.h>
#include <unistd.h>

#include "../test/guest/c/drm.h"

#define POOL	"/sys/kernel/debug/ion/pool"
#define DRAIN	"/sys/kernel/debug/ion/drain"

/* A driver that imports what it is given, and maps it for a device. */
#define CARD	"/dev/dri/card0"

/* Lives one after the other, of which all work is counted, whoever does it. */
#define SUSTAINED	8

/* Nanoseconds; an eighth of the time between two ticks of the kernel's timer. */
#define LONGEST_PAUSE	500e3

struct heap {
	int device;
	int drain;	/* or -1 */
	bool warm;
	unsigned int ion_id;
	int (*alloc)(const struct heap *heap, size_t size);
};

static int card;

struct buffer {
	const struct heap *heap;
	size_t size;
	int fd;
	void *bytes;
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
	struct heap heap = { .drain = -1 };
	char path[256];

	if (sscanf(name, "ion:%u", &heap.ion_id) == 1) {
		heap.alloc = ion_alloc;
		heap.warm = strstr(name, ":warm");
		/* There is none with pool_max=0. */
		heap.drain = open(DRAIN, O_WRONLY | O_CLOEXEC);
		strcpy(path, "/dev/ion");
	} else if (!strcmp(name, "cma_mem")) {
		heap.alloc = cma_mem_alloc;
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

static void step_alloc(struct buffer *buffer)
{
	buffer->fd = buffer->heap->alloc(buffer->heap, buffer->size);
	if (buffer->fd < 0)
		fail("alloc");
}

static void step_mmap(struct buffer *buffer)
{
	buffer->bytes = mmap(NULL, buffer->size, PROT_READ | PROT_WRITE, MAP_SHARED, buffer->fd, 0);
	if (buffer->bytes == MAP_FAILED)
		fail("mmap");
}

static void step_memset(struct buffer *buffer)
{
	memset(buffer->bytes, 0x5a, buffer->size);
}

static void sync_cache(const struct buffer *buffer, __u64 flags)
{
	struct dma_buf_sync sync = { .flags = flags | DMA_BUF_SYNC_RW };

	if (ioctl(buffer->fd, DMA_BUF_IOCTL_SYNC, &sync))
		fail("DMA_BUF_IOCTL_SYNC");
}

/* Attached and mapped for a device, a bracket of CPU access, unmapped and detached. */
static void step_device(struct buffer *buffer)
{
	struct drm_prime_handle prime = { .fd = buffer->fd };
	struct drm_gem_close handle = { 0 };

	if (ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime))
		fail("DRM_IOCTL_PRIME_FD_TO_HANDLE");
	sync_cache(buffer, DMA_BUF_SYNC_START);
	sync_cache(buffer, DMA_BUF_SYNC_END);
	handle.handle = prime.handle;
	if (ioctl(card, DRM_IOCTL_GEM_CLOSE, &handle))
		fail("DRM_IOCTL_GEM_CLOSE");
}

static void step_unmap_close(struct buffer *buffer)
{
	if (munmap(buffer->bytes, buffer->size) || close(buffer->fd))
		fail("unmap+close");
}

static void drain(const struct heap *heap)
{
	if (write(heap->drain, "1", 1) != 1)
		fail(DRAIN);
}

/* What is kept in the end goes back, too: nobody is to do that later. */
static void step_sustained(struct buffer *buffer)
{
	for (int i = 0; i < SUSTAINED; i++) {
		step_alloc(buffer);
		if (close(buffer->fd))
			fail("close");
	}
	if (buffer->heap->drain >= 0 && !buffer->heap->warm)
		drain(buffer->heap);
}

static bool is_zeroed(void)
{
	long long bytes, zeroed;
	FILE *file = fopen(POOL, "re");

	if (!file || fscanf(file, "max_bytes %*d bytes %lld zeroed_bytes %lld", &bytes, &zeroed) != 2)
		fail(POOL);
	fclose(file);

	return bytes == zeroed;
}

/* Nothing of a life is left to be done in the next. */
static void settle(const struct heap *heap)
{
	if (heap->warm)
		while (!is_zeroed())
			usleep(1000);
	else if (heap->drain >= 0)
		drain(heap);
}

static const struct step {
	const char *name;
	void (*run)(struct buffer *buffer);
} steps[] = {
	{ "alloc", step_alloc },
	{ "mmap", step_mmap },
	{ "memset", step_memset },
	{ "device", step_device },
	{ "unmap+close", step_unmap_close },
	{ "sustained", step_sustained },
};

#define STEPS	(sizeof(steps) / sizeof(steps[0]))

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);

	return time.tv_sec * 1e9 + time.tv_nsec;
}

static int by_value(const void *left, const void *right)
{
	double a = *(const double *)left;
	double b = *(const double *)right;

	return (a > b) - (a < b);
}

/*
 * The mean without a tenth at each end. Not the median: freed pages are kept
 * and given back in batches, so that a step may take long every second time.
 */
static double typical(double *times, unsigned int count)
{
	unsigned int skip = count / 10;
	double sum = 0;

	qsort(times, count, sizeof(*times), by_value);
	for (unsigned int i = skip; i < count - skip; i++)
		sum += times[i];

	return sum / (count - 2 * skip);
}

/* Else lives that take about a tick, or half of one, have it always in the same step. */
static void pause_at_random(void)
{
	static unsigned int state = 1;
	double end;

	state = state * 1103515245 + 12345;
	end = now() + (state >> 16) / 65536.0 * LONGEST_PAUSE;
	while (now() < end)
		;
}

/* What reading the clock adds to each time. */
static double clock_cost(void)
{
	double times[256];
	double start;

	for (unsigned int i = 0; i < 256; i++) {
		start = now();
		times[i] = now() - start;
	}

	return typical(times, 256);
}

int main(int argc, char **argv)
{
	double start, overhead, *times[2][STEPS];
	unsigned int rounds, warm_up, which, turn, step;
	struct heap heaps[2];
	size_t size;

	/* The number of page tables depends on where a mapping begins. */
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {
		personality(ADDR_NO_RANDOMIZE);
		execv("/proc/self/exe", argv);
		fail("/proc/self/exe");
	}
	size = argc == 5 ? strtoul(argv[1], NULL, 10) : 0;
	rounds = argc == 5 ? strtoul(argv[2], NULL, 10) : 0;
	if (!size || !rounds) {
		fprintf(stderr, "usage: heap SIZE ROUNDS OURS PEER\n");
		return 1;
	}
	card = open(CARD, O_RDWR | O_CLOEXEC);
	if (card < 0)
		fail(CARD);
	for (which = 0; which < 2; which++) {
		heaps[which] = open_heap(argv[3 + which]);
		settle(&heaps[which]);
		for (step = 0; step < STEPS; step++)
			times[which][step] = calloc(rounds, sizeof(double));
	}
	overhead = clock_cost();

	/* Until the kernel's allocators have settled. */
	warm_up = 4 + rounds / 4;
	for (unsigned int round = 0; round < warm_up + rounds; round++) {
		for (turn = 0; turn < 2; turn++) {
			/* Neither is always the one that comes after the other. */
			which = turn ^ (round & 1);
			struct buffer buffer = { .heap = &heaps[which], .size = size };

			pause_at_random();
			for (step = 0; step < STEPS; step++) {
				start = now();
				steps[step].run(&buffer);
				if (round >= warm_up)
					times[which][step][round - warm_up] = now() - start - overhead;
			}
			settle(&heaps[which]);
		}
	}

	for (step = 0; step < STEPS; step++)
		printf("%s %.1f %.1f\n", steps[step].name, typical(times[0][step], rounds),
		       typical(times[1][step], rounds));

	return 0;
}

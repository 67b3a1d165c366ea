// SPDX-License-Identifier: MIT
/*
 * The life of a buffer, step by step, on one of our heaps and on the kernel's
 * own, in turns: heap SIZE ROUNDS OURS PEER. A heap is ion:ID, cma_mem or
 * dma_heap:NAME. What is kept of freed buffers is drained after each life; with
 * ion:ID:warm and cma_mem:warm it is zeroed instead, which is waited for. Prints
 * a line a step: its name, and the nanoseconds of each.
 *
 * heap profile STEP SIZE HEAP does one step of one life while somebody else
 * counts instructions: before it a line with the addresses of the functions at
 * both ends of it, after it another one; each waits for an answer.
 */
#include <linux/dma-buf.h>
#include <sys/mman.h>
#include <sys/personality.h>

#include "buffers.h"
#include "../test/guest/c/drm.h"

/* A driver that imports what it is given, and maps it for a device. */
#define CARD	"/dev/dri/card0"

/* Lives one after the other, of which all work is counted, whoever does it. */
#define SUSTAINED	8

/* Nanoseconds; an eighth of the time between two ticks of the kernel's timer. */
#define LONGEST_PAUSE	500e3

static int card;

struct buffer {
	const struct heap *heap;
	size_t size;
	int fd;
	void *bytes;
};

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

/* What is kept in the end goes back, too: nobody is to do that later. */
static void step_sustained(struct buffer *buffer)
{
	for (int i = 0; i < SUSTAINED; i++) {
		step_alloc(buffer);
		if (close(buffer->fd))
			fail("close");
	}
	if (!buffer->heap->warm)
		drain(buffer->heap);
}

static bool is_zeroed(const struct heap *heap)
{
	long long bytes, zeroed;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), DEBUGFS "%s/pool", heap->name);
	file = fopen(path, "re");
	if (!file || fscanf(file, "max_bytes %*d bytes %lld zeroed_bytes %lld", &bytes, &zeroed) != 2)
		fail(path);
	fclose(file);

	return bytes == zeroed;
}

/* Nothing of a life is left to be done in the next. */
static void settle(const struct heap *heap)
{
	if (heap->warm)
		while (!is_zeroed(heap))
			usleep(1000);
	else
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

/* Where counting begins and ends. */
static __attribute__((noinline, noipa)) void profile_begin(void)
{
}

static __attribute__((noinline, noipa)) void profile_end(void)
{
}

static void await_answer(void)
{
	if (!fgets((char[16]){ 0 }, 16, stdin))
		fail("standard input");
}

/* Bit 0 says which instruction set it is of. */
static unsigned long address_of(void (*function)(void))
{
	return (unsigned long)function & ~1UL;
}

static void profile_step(const struct step *step, struct buffer *buffer)
{
	printf("begin %lx %lx\n", address_of(profile_begin), address_of(profile_end));
	fflush(stdout);
	await_answer();
	profile_begin();
	step->run(buffer);
	profile_end();
	puts("end");
	fflush(stdout);
	await_answer();
}

/* As in the other lives, the last of many. */
static int profile(const char *name, size_t size, const char *heap_name)
{
	const unsigned int last = 8;
	struct heap heap = open_heap(heap_name);
	bool found = false;

	settle(&heap);
	for (unsigned int round = 0; round <= last; round++) {
		struct buffer buffer = { .heap = &heap, .size = size };

		for (unsigned int step = 0; step < STEPS; step++) {
			bool wanted = round == last && !strcmp(steps[step].name, name);

			found |= wanted;
			if (wanted)
				profile_step(&steps[step], &buffer);
			else
				steps[step].run(&buffer);
		}
		settle(&heap);
	}

	return found ? 0 : 1;
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
	card = open(CARD, O_RDWR | O_CLOEXEC);
	if (card < 0)
		fail(CARD);
	if (argc == 5 && !strcmp(argv[1], "profile"))
		return profile(argv[2], strtoul(argv[3], NULL, 10), argv[4]);
	size = argc == 5 ? strtoul(argv[1], NULL, 10) : 0;
	rounds = argc == 5 ? strtoul(argv[2], NULL, 10) : 0;
	if (!size || !rounds) {
		fprintf(stderr, "usage: heap SIZE ROUNDS OURS PEER | heap profile STEP SIZE HEAP\n");
		return 1;
	}
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

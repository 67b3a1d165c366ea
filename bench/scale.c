// SPDX-License-Identifier: MIT
/*
 * What allocating costs as there is more of it, on one heap: ion:ID, cma_mem or
 * dma_heap:NAME. What is kept of freed buffers is drained, or not wanted.
 *
 * scale size HEAP BYTES ROUNDS		nanoseconds a mebibyte, of one buffer
 * scale live HEAP BUFFERS ROUNDS	nanoseconds of alloc and close of a page,
 *					while so many others are there
 * scale processes HEAP COUNT ROUNDS	the same, by so many processes at a time
 * scale memory HEAP BUFFERS BYTES	bytes of the kernel's own a buffer
 */
#include <sys/resource.h>
#include <sys/wait.h>

#include "buffers.h"

#define MIB		(1024 * 1024)
#define PAGE		4096
/* Until the kernel's allocators have settled. */
#define WARM_UP		16

static struct heap heap;

static int must_alloc(size_t size)
{
	int fd = heap.alloc(&heap, size);

	if (fd < 0)
		fail("alloc");

	return fd;
}

static void must_close(int fd)
{
	if (close(fd))
		fail("close");
}

static double per_mebibyte(unsigned long size, unsigned long rounds)
{
	double spent = 0;
	double start;
	int fd;

	for (unsigned long i = 0; i < rounds + 1; i++) {
		start = now();
		fd = must_alloc(size);
		/* The first one finds the memory as others have left it. */
		if (i > 0)
			spent += now() - start;
		must_close(fd);
		drain(&heap);
	}

	return spent / rounds / ((double)size / MIB);
}

static void lives(unsigned long rounds)
{
	for (unsigned long i = 0; i < rounds; i++)
		must_close(must_alloc(PAGE));
}

/* Until this process ends. */
static void make(unsigned long count, size_t size)
{
	struct rlimit limit = { count + 64, count + 64 };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		fail("descriptors");
	for (unsigned long i = 0; i < count; i++)
		must_alloc(size);
}

static double beside(unsigned long count, unsigned long rounds)
{
	double start;

	make(count, PAGE);
	lives(WARM_UP);
	start = now();
	lives(rounds);

	return (now() - start) / rounds;
}

static double together(unsigned long count, unsigned long rounds)
{
	int ready[2], go[2], status;
	double start;
	char c = 0;

	if (pipe(ready) || pipe(go))
		fail("pipe");
	for (unsigned long i = 0; i < count; i++) {
		if (fork())
			continue;
		lives(WARM_UP);
		close(go[1]);
		if (write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 0)
			fail("pipe");
		lives(rounds);
		_exit(0);
	}
	for (unsigned long i = 0; i < count; i++)
		if (read(ready[0], &c, 1) != 1)
			fail("pipe");
	start = now();
	/* All of them see its end. */
	close(go[1]);
	for (unsigned long i = 0; i < count; i++)
		if (wait(&status) < 0 || status)
			exit(1);

	return (now() - start) / rounds / count;
}

/* Of small objects, and of arrays that are too large for these. */
static double kernel_bytes(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long kib, sum = 0;
	char line[128];

	if (!file)
		fail("/proc/meminfo");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Slab: %lu", &kib) == 1 || sscanf(line, "VmallocUsed: %lu", &kib) == 1)
			sum += kib;
	fclose(file);

	return sum * 1024.0;
}

static double overhead(unsigned long count, unsigned long size)
{
	double before;

	/* What the first one of all needs. */
	must_close(must_alloc(size));
	before = kernel_bytes();
	make(count, size);

	return (kernel_bytes() - before) / count;
}

static const struct {
	const char *name;
	double (*measure)(unsigned long first, unsigned long second);
} figures[] = {
	{ "size", per_mebibyte },
	{ "live", beside },
	{ "processes", together },
	{ "memory", overhead },
};

int main(int argc, char **argv)
{
	unsigned long first = argc == 5 ? strtoul(argv[3], NULL, 10) : 0;
	unsigned long second = argc == 5 ? strtoul(argv[4], NULL, 10) : 0;

	for (size_t i = 0; first && second && i < sizeof(figures) / sizeof(figures[0]); i++) {
		if (strcmp(argv[1], figures[i].name))
			continue;
		heap = open_heap(argv[2]);
		drain(&heap);
		printf("%.1f\n", figures[i].measure(first, second));
		return 0;
	}
	fprintf(stderr, "usage: scale size|live|processes|memory HEAP NUMBER NUMBER\n");

	return 1;
}

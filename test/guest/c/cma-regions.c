// SPDX-License-Identifier: MIT
/*
 * Regions of /dev/cma_mem, many of them and for long, as root:
 *
 *   cma-regions strangers ROUNDS SEED   two processes with regions each, which
 *                                       look for each other's at every offset
 *   cma-regions churn N                 N regions allocated and given up
 *   cma-regions roll BYTES              a region after the other, until there are
 *                                       no new offsets, and gaps have to do
 *
 * Each prints what it came to as a line of JSON, or says what is wrong and ends
 * with 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../kernel-modules/include/uapi/dmabuf/cma_mem.h"

#define MOST_REGIONS	8
#define MOST_PAGES	16
/* Two processes. */
#define STRANGERS	2

static size_t page_size;
static uint32_t seed = 1;

static __attribute__((noreturn, format(printf, 1, 2))) void wrong(const char *format, ...)
{
	va_list list;

	fprintf(stderr, "cma-regions, process %d: ", getpid());
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
	exit(1);
}

static uint32_t below(uint32_t limit)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)(((uint64_t)seed * limit) >> 32);
}

static int open_device(void)
{
	int fd = open("/dev/cma_mem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		wrong("/dev/cma_mem: %s", strerror(errno));
	return fd;
}

static struct cmamem_info allocate(int fd, size_t pages)
{
	struct cmamem_info info = { .len = pages * page_size, .is_cache = below(2) };

	if (ioctl(fd, CMEM_ALLOCATE, &info))
		wrong("CMEM_ALLOCATE of %zu pages: %s", pages, strerror(errno));
	if (!info.phy_base)
		wrong("no address: not root?");
	return info;
}

static void give_up(int fd, uint32_t id)
{
	struct cmamem_info info = { .id = id };

	if (ioctl(fd, CMEM_UNMAP, &info))
		wrong("CMEM_UNMAP of region %u: %s", id, strerror(errno));
}

static uint32_t *map(int fd, uint64_t offset, size_t bytes)
{
	void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	return address == MAP_FAILED ? NULL : address;
}

static uint32_t *must_map(int fd, uint64_t offset, size_t bytes)
{
	uint32_t *address = map(fd, offset, bytes);

	if (!address)
		wrong("%zu bytes at %llu cannot be mapped: %s", bytes, (unsigned long long)offset,
		      strerror(errno));
	return address;
}

/* Every word of a region is this one of its maker's. */
static void fill(uint32_t *words, size_t bytes, uint32_t value)
{
	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = value;
}

static void check(const uint32_t *words, size_t bytes, uint32_t value, const char *what)
{
	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		if (words[i] != value)
			wrong("word %zu of %s is 0x%08x, not 0x%08x", i, what, words[i], value);
}

/* What both processes know of. */
static struct shared {
	/* Who had a page of physical memory last, by its number; 0: nobody. */
	uint8_t had[1 << 20];
	/* Where the regions of each are, for the other one to try. */
	atomic_uint places[STRANGERS][MOST_REGIONS];
	atomic_uint ids[STRANGERS][MOST_REGIONS];
	atomic_int present;
	/* Fresh regions on memory that the other one had before. */
	atomic_uint inherited;
	atomic_uint refused;
	atomic_uint mapped;
	atomic_uint allocated;
} *shared;

static struct own {
	struct cmamem_info info;
	uint32_t value;
} own[MOST_REGIONS];

static unsigned int me;

static const struct own *own_at(uint64_t offset, size_t bytes)
{
	for (unsigned int i = 0; i < MOST_REGIONS; i++)
		if (own[i].value && offset >= own[i].info.offset &&
		    offset + bytes <= own[i].info.offset + own[i].info.len)
			return &own[i];
	return NULL;
}

/* There is memory of ours, or there is none. */
static void probe(int fd, uint64_t offset, size_t pages)
{
	size_t bytes = pages * page_size;
	const struct own *mine = own_at(offset, bytes);
	uint32_t *words;

	words = map(fd, offset, bytes);
	if (!words) {
		if (mine)
			wrong("our region %u at %llu cannot be mapped: %s", mine->info.id,
			      (unsigned long long)offset, strerror(errno));
		/* EOVERFLOW: of the system call itself. */
		if (errno != EINVAL && errno != EOVERFLOW)
			wrong("%zu pages at %llu: %s, not EINVAL", pages, (unsigned long long)offset,
			      strerror(errno));
		shared->refused++;
		return;
	}
	if (!mine)
		wrong("%zu pages at %llu are mapped, and not ours: 0x%08x", pages,
		      (unsigned long long)offset, *words);
	check(words, bytes, mine->value, "our region");
	munmap(words, bytes);
	shared->mapped++;
}

static void make_one(int fd, unsigned int i, uint32_t value)
{
	size_t pages = 1 + below(MOST_PAGES);
	struct cmamem_info info = allocate(fd, pages);
	uint32_t *words = must_map(fd, info.offset, info.len);
	bool inherited = false;

	check(words, info.len, 0, "a fresh region");
	for (size_t page = 0; page < pages; page++) {
		uint8_t *had = &shared->had[info.phy_base / page_size + page];

		inherited |= *had && *had != me + 1;
		*had = me + 1;
	}
	shared->inherited += inherited;
	shared->allocated++;
	fill(words, info.len, value);
	munmap(words, info.len);
	own[i] = (struct own){ info, value };
	shared->places[me][i] = info.phy_base;
	shared->ids[me][i] = info.id;
}

/* The call of an id that is the other one's alone. */
static void ask(int fd, uint32_t id)
{
	struct cmamem_info info = { .id = id, .len = page_size };
	struct cmem_export export = { .id = id, .fd_flags = O_RDWR | O_CLOEXEC };

	for (unsigned int i = 0; i < MOST_REGIONS; i++)
		if (own[i].value && own[i].info.id == id)
			return;
	if (!ioctl(fd, CMEM_MAP, &info) || !ioctl(fd, CMEM_GET_PHYS, &info) ||
	    !ioctl(fd, CMEM_CACHE_FLUSH, &info) || !ioctl(fd, CMEM_UNMAP, &info) ||
	    !ioctl(fd, CMEM_IOC_EXPORT, &export))
		wrong("region %u is the other process's", id);
}

/* Where there is no CMA each processor keeps the pages that were freed on it to itself. */
static void meet(bool together)
{
	static cpu_set_t anywhere;
	cpu_set_t first;

	if (!CPU_COUNT(&anywhere))
		sched_getaffinity(0, sizeof(anywhere), &anywhere);
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (sched_setaffinity(0, sizeof(first), together ? &first : &anywhere))
		wrong("sched_setaffinity: %s", strerror(errno));
}

static void stranger(unsigned int rounds)
{
	uint32_t value = (me + 1) << 24;
	uint64_t furthest = 0;
	int fd = open_device();
	unsigned int i;

	/* Neither is done before the other has begun. */
	shared->present++;
	while (shared->present < STRANGERS)
		usleep(1000);
	for (unsigned int round = 0; round < rounds; round++) {
		meet(round % 2);
		i = below(MOST_REGIONS);
		if (own[i].value) {
			uint32_t *kept = below(2) ? must_map(fd, own[i].info.offset, own[i].info.len) : NULL;

			give_up(fd, own[i].info.id);
			if (kept) {
				/* Given up it is ours as long as it is mapped, whoever allocates. */
				usleep(below(2000));
				check(kept, own[i].info.len, own[i].value, "a region given up");
				munmap(kept, own[i].info.len);
			}
			own[i].value = 0;
		} else {
			make_one(fd, i, ++value);
			if (own[i].info.offset + own[i].info.len > furthest)
				furthest = own[i].info.offset + own[i].info.len;
		}
		for (uint64_t at = 0; at < furthest + 4 * page_size; at += page_size)
			probe(fd, at, 1 + below(2));
		for (i = 0; i < MOST_REGIONS; i++) {
			uint64_t theirs = shared->places[!me][i];

			/* The tutorial added the offset to an address of its own. */
			probe(fd, theirs, 1);
			probe(fd, theirs * page_size, 1);
			probe(fd, (uint64_t)(uint32_t)(theirs - own[i].info.phy_base), 1);
			ask(fd, shared->ids[!me][i]);
		}
	}
	close(fd);
	exit(0);
}

static void strangers(unsigned int rounds, uint32_t first_seed)
{
	int status;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		wrong("mmap: %s", strerror(errno));
	for (me = 0; me < STRANGERS; me++) {
		seed = first_seed + me;
		if (!fork())
			stranger(rounds);
	}
	for (unsigned int i = 0; i < STRANGERS; i++)
		if (wait(&status) < 0 || status)
			exit(1);
	printf("{\"allocated\":%u,\"inherited\":%u,\"mapped\":%u,\"refused\":%u}\n", shared->allocated,
	       shared->inherited, shared->mapped, shared->refused);
}

static void churn(unsigned int count)
{
	int fd = open_device();

	for (unsigned int i = 0; i < count; i++) {
		struct cmamem_info info = allocate(fd, 1 + (i % 64 == 0) * below(MOST_PAGES));

		if (info.offset)
			wrong("allocation %u is at %u, and nothing else is there", i, info.offset);
		if (i % 32 == 0) {
			uint32_t *words = must_map(fd, 0, info.len);

			check(words, info.len, 0, "a fresh region");
			fill(words, info.len, i + 1);
			munmap(words, info.len);
		}
		give_up(fd, info.id);
	}
	close(fd);
	printf("{\"allocated\":%u}\n", count);
}

/*
 * Every so often a page stays for good, so that there are gaps, and of these some
 * too small. The last one before the end would fill what is left to the byte:
 * each can be mapped, which one that ends at 4 GiB cannot on a 32-bit kernel.
 */
static void roll(size_t bytes)
{
	const uint64_t all = UINT64_C(1) << 32;
	size_t pages = bytes / page_size;
	uint64_t left = all;
	int fd = open_device();
	struct cmamem_info before = allocate(fd, pages), now;
	unsigned int count = 1, stay = 0, in_gaps = 0;
	struct cmamem_info staying[64];

	while (in_gaps < 4) {
		if (count % 32 == 0 && stay < 64) {
			staying[stay++] = allocate(fd, 1);
			left -= page_size;
		}
		now = allocate(fd, left <= bytes && !in_gaps ? left / page_size : pages);
		munmap(must_map(fd, now.offset, now.len), now.len);
		count++;
		in_gaps += now.offset < before.offset;
		left = all - now.offset - now.len;
		for (unsigned int i = 0; i < stay; i++)
			if (staying[i].offset >= now.offset && staying[i].offset - now.offset < now.len)
				wrong("two regions are at %u", staying[i].offset);
		if ((uint64_t)now.offset + now.len > all)
			wrong("a region ends beyond 4 GiB");
		give_up(fd, before.id);
		before = now;
		if (count > 2 * (all / bytes) + 64)
			wrong("offsets go on for ever");
	}
	for (unsigned int i = 0; i < stay; i++)
		munmap(must_map(fd, staying[i].offset, page_size), page_size);
	close(fd);
	printf("{\"allocated\":%u,\"staying\":%u,\"inGaps\":%u}\n", count, stay, in_gaps);
}

int main(int argc, char **argv)
{
	page_size = sysconf(_SC_PAGESIZE);
	if (argc == 4 && !strcmp(argv[1], "strangers")) {
		strangers(atoi(argv[2]), atoi(argv[3]));
	} else if (argc == 3 && !strcmp(argv[1], "churn")) {
		churn(atoi(argv[2]));
	} else if (argc == 3 && !strcmp(argv[1], "roll")) {
		roll(atol(argv[2]));
	} else {
		fprintf(stderr, "usage: cma-regions strangers ROUNDS SEED | churn N | roll BYTES\n");
		return 2;
	}
	return 0;
}

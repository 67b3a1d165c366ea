// SPDX-License-Identifier: MIT
/*
 * Imports the dma-bufs on descriptors 3 and up for QEMU's edu device, as lines
 * on standard input say, and answers each with a line of JSON:
 *
 * import N DEVICE FD static|dynamic
 * map N both|to-device|from-device	{"segments":[[address,bytes],...]}
 * unmap N
 * close N
 * copy N OFFSET M OFFSET LENGTH	by DMA, from one import to another
 * read N OFFSET LENGTH synced|unsynced	{"bytes":"hex"}, by the kernel's CPU
 * write N OFFSET HEX synced|unsynced
 * pages N COUNT			{"pages":[...]}: numbers of page frames
 * mmap N read|write			through the driver: reads the first byte, or
 *					writes it; mprotect() afterwards wants both
 *
 * {"call":...,"errno":...} is the answer where a call failed. N and M are
 * numbers of imports, of the caller's choice.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../../kernel-modules/selftest/edu_importer.h"

#define MOST_IMPORTS	16
#define MOST_SEGMENTS	4096
#define MOST_PAGES	4096
#define MOST_WORDS	8

static int imports[MOST_IMPORTS];
static struct edu_segment segments[MOST_SEGMENTS];

static void failed(const char *call)
{
	printf("{\"call\":\"%s\",\"errno\":%d}\n", call, errno);
}

static void done(void)
{
	puts("{}");
}

static _Noreturn void misused(const char *what)
{
	fprintf(stderr, "edu-import: %s: what is that?\n", what);
	exit(2);
}

static unsigned int index_of(const char *word)
{
	unsigned int n = strtoul(word, NULL, 0);

	if (n >= MOST_IMPORTS)
		misused(word);
	return n;
}

static uint64_t number(const char *word)
{
	return strtoull(word, NULL, 0);
}

static unsigned int direction_of(const char *word)
{
	if (!strcmp(word, "both"))
		return EDU_BOTH;
	if (!strcmp(word, "to-device"))
		return EDU_TO_DEVICE;
	if (!strcmp(word, "from-device"))
		return EDU_FROM_DEVICE;
	/* One there is not. */
	return number(word);
}

static void do_import(char **words)
{
	unsigned int n = index_of(words[0]);
	struct edu_import import = {
		.fd = number(words[2]),
		.flags = strcmp(words[3], "dynamic") ? 0 : EDU_DYNAMIC,
	};

	if (imports[n] < 0)
		imports[n] = open(words[1], O_RDWR | O_CLOEXEC);
	if (imports[n] < 0)
		failed("open");
	else if (ioctl(imports[n], EDU_IOC_IMPORT, &import) < 0)
		failed("EDU_IOC_IMPORT");
	else
		done();
}

static void do_map(char **words)
{
	struct edu_map map = {
		.segments = (uintptr_t)segments,
		.count = MOST_SEGMENTS,
		.direction = direction_of(words[1]),
	};

	if (ioctl(imports[index_of(words[0])], EDU_IOC_MAP, &map) < 0) {
		failed("EDU_IOC_MAP");
		return;
	}
	if (map.count > MOST_SEGMENTS)
		misused("a buffer in so many segments");
	printf("{\"segments\":[");
	for (unsigned int i = 0; i < map.count; i++)
		printf("%s[%" PRIu64 ",%" PRIu64 "]", i ? "," : "", (uint64_t)segments[i].address,
		       (uint64_t)segments[i].length);
	puts("]}");
}

static void do_unmap(char **words)
{
	if (ioctl(imports[index_of(words[0])], EDU_IOC_UNMAP) < 0)
		failed("EDU_IOC_UNMAP");
	else
		done();
}

static void do_close(char **words)
{
	unsigned int n = index_of(words[0]);

	close(imports[n]);
	imports[n] = -1;
	done();
}

static int transfer(const char *n, uint64_t offset, uint64_t length, unsigned int direction)
{
	struct edu_transfer what = { .offset = offset, .length = length, .direction = direction };

	return ioctl(imports[index_of(n)], EDU_IOC_TRANSFER, &what);
}

static void do_copy(char **words)
{
	uint64_t from = number(words[1]);
	uint64_t to = number(words[3]);
	uint64_t left = number(words[4]);
	uint64_t now;

	do {
		now = left < EDU_WINDOW ? left : EDU_WINDOW;
		if (transfer(words[0], from, now, EDU_TO_DEVICE) < 0 ||
		    transfer(words[2], to, now, EDU_FROM_DEVICE) < 0) {
			failed("EDU_IOC_TRANSFER");
			return;
		}
		from += now;
		to += now;
		left -= now;
	} while (left > 0);
	done();
}

static int cpu_access(char **words, void *bytes, uint64_t length, unsigned int flags)
{
	struct edu_cpu_access access = {
		.offset = number(words[1]),
		.length = length,
		.bytes = (uintptr_t)bytes,
		.flags = flags | (strcmp(words[3], "unsynced") ? 0 : EDU_CPU_UNSYNCED),
	};

	return ioctl(imports[index_of(words[0])], EDU_IOC_CPU_ACCESS, &access);
}

static void do_read(char **words)
{
	uint64_t length = number(words[2]);
	unsigned char *bytes = malloc(length);

	if (!bytes || cpu_access(words, bytes, length, 0) < 0) {
		failed("EDU_IOC_CPU_ACCESS");
	} else {
		printf("{\"bytes\":\"");
		for (uint64_t i = 0; i < length; i++)
			printf("%02x", bytes[i]);
		puts("\"}");
	}
	free(bytes);
}

static void do_write(char **words)
{
	uint64_t length = strlen(words[2]) / 2;
	unsigned char *bytes = malloc(length);

	for (uint64_t i = 0; bytes && i < length; i++)
		if (sscanf(words[2] + 2 * i, "%2hhx", &bytes[i]) != 1)
			misused(words[2]);
	if (!bytes || cpu_access(words, bytes, length, EDU_CPU_WRITE) < 0)
		failed("EDU_IOC_CPU_ACCESS");
	else
		done();
	free(bytes);
}

static void do_pages(char **words)
{
	static __u64 frames[MOST_PAGES];
	struct edu_pages pages = { .frames = (uintptr_t)frames, .count = MOST_PAGES };
	int fd = imports[index_of(words[0])];

	if (ioctl(fd, EDU_IOC_PAGES, &pages) < 0) {
		failed("EDU_IOC_PAGES");
		return;
	}
	printf("{\"pages\":[");
	for (uint64_t i = 0; i < number(words[1]); i++)
		printf("%s%" PRIu64, i ? "," : "", (uint64_t)frames[i]);
	puts("]}");
}

static void do_mmap(char **words)
{
	int protection = strcmp(words[1], "write") ? PROT_READ : PROT_READ | PROT_WRITE;
	int fd = imports[index_of(words[0])];
	size_t page = sysconf(_SC_PAGESIZE);
	volatile unsigned char *bytes;

	bytes = mmap(NULL, page, protection, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED) {
		failed("mmap");
		return;
	}
	if (protection & PROT_WRITE)
		bytes[0]++;
	else
		(void)bytes[0];
	if (mprotect((void *)bytes, page, PROT_READ | PROT_WRITE) < 0)
		failed("mprotect");
	else
		done();
	munmap((void *)bytes, page);
}

static const struct {
	const char *name;
	int words;
	void (*run)(char **words);
} commands[] = {
	{ "import", 4, do_import },
	{ "map", 2, do_map },
	{ "unmap", 1, do_unmap },
	{ "close", 1, do_close },
	{ "copy", 5, do_copy },
	{ "read", 4, do_read },
	{ "write", 4, do_write },
	{ "pages", 2, do_pages },
	{ "mmap", 2, do_mmap },
};

static void run(char *line)
{
	char *words[MOST_WORDS];
	int count = 0;

	for (char *word = strtok(line, " \n"); word && count < MOST_WORDS; word = strtok(NULL, " \n"))
		words[count++] = word;
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (count == commands[i].words + 1 && !strcmp(words[0], commands[i].name)) {
			commands[i].run(words + 1);
			fflush(stdout);
			return;
		}
	}
	misused(line);
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;

	for (int i = 0; i < MOST_IMPORTS; i++)
		imports[i] = -1;
	while (getline(&line, &room, stdin) > 0)
		run(line);
	free(line);
	return 0;
}

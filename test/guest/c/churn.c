// SPDX-License-Identifier: MIT
/*
 * Two processes that fill buffers and give them up, on and on, and look whether
 * a fresh one shows what was in another: churn MIB. Prints how many bytes they
 * looked at; ends with 1 at the first that is not zero.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../kernel-modules/include/uapi/dmabuf/ion.h"

#define SYSTEM_HEAP	(1U << 0)
#define MEBI		(1U << 20)
/* Of one process at a time, so that what one frees another gets. */
#define HELD		4

static uint32_t state;

static uint32_t below(uint32_t limit)
{
	state = state * 1103515245 + 12345;

	return (state >> 8) % limit;
}

static void fail(const char *what)
{
	fprintf(stderr, "churn: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* Of pages, of 64 KiB and of mebibytes, cached as often as not. */
static int alloc(int device, size_t *size)
{
	static const unsigned int units[] = { 4096, 65536, MEBI };
	struct ion_allocation_data data = { .heap_id_mask = SYSTEM_HEAP };

	data.len = (1 + below(15)) * units[below(3)] / 2 + 1;
	data.flags = below(2) ? ION_FLAG_CACHED : 0;
	if (ioctl(device, ION_IOC_ALLOC, &data))
		fail("ION_IOC_ALLOC");
	*size = data.len;

	return data.fd;
}

/* Bytes that were looked at, by both. */
static _Atomic uint64_t *looked;

static void look_and_fill(int fd, size_t size)
{
	static const uint64_t none[512];
	char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (bytes == MAP_FAILED)
		fail("mmap");
	for (size_t at = 0; at < size; at += sizeof(none)) {
		if (memcmp(bytes + at, none, sizeof(none))) {
			fprintf(stderr, "churn: bytes of somebody else at %zu of %zu\n", at, size);
			exit(1);
		}
		*looked += sizeof(none);
	}
	/* To the end of the last page, which is somebody else's next. */
	memset(bytes, 0xa5, (size + 4095) & ~4095UL);
	if (munmap(bytes, size))
		fail("munmap");
}

static void churn(uint64_t wanted)
{
	int device = open("/dev/ion", O_RDONLY | O_CLOEXEC);
	int held[HELD];
	unsigned int count = 0;
	uint64_t done = 0;
	size_t size;

	if (device < 0)
		fail("/dev/ion");
	while (done < wanted) {
		if (count == HELD || (count && below(2)))
			close(held[--count]);
		held[count] = alloc(device, &size);
		look_and_fill(held[count++], size);
		done += size;
	}
	exit(0);
}

int main(int argc, char **argv)
{
	uint64_t each = argc == 2 ? strtoull(argv[1], NULL, 10) * MEBI / 2 : 0;
	int worst = 0;
	int status;

	if (!each) {
		fprintf(stderr, "usage: churn MIB\n");
		return 2;
	}
	looked = mmap(NULL, sizeof(*looked), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (looked == MAP_FAILED)
		fail("mmap");
	for (state = 1; state <= 2; state++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (!pid)
			churn(each);
	}
	while (wait(&status) > 0) {
		int code = WIFEXITED(status) ? WEXITSTATUS(status) : 2;

		worst = code > worst ? code : worst;
	}
	if (!worst)
		printf("%llu\n", (unsigned long long)*looked);

	return worst;
}
